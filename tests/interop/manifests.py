"""Parses compose.yaml strictly, validates keda.yaml by KEDA's schema and lints the Containerfile.

Writes the configuration of the ConfigMap to kubernetes.toml in the folder that is the argument.
"""

import json
import subprocess
import sys
from pathlib import Path

import compose_spec
import yaml

FOLDER = Path("systemd")


def node(program, argument):
    """Runs a program in Node.js and returns what it prints as JSON."""
    done = subprocess.run(["node", "-e", program], input=json.dumps(argument), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


READ = "const input = JSON.parse(require('fs').readFileSync(0, 'utf8'));"

# A strict parser: it also resolves what services say of volumes and secrets.
compose_spec.PyCompose.from_yaml((FOLDER / "container/compose.yaml").read_text()).validate()

for document in yaml.safe_load_all((FOLDER / "kubernetes/keda.yaml").read_text()):
    program = READ + """
        const path = process.env.NODE_PATH + '/@kubernetes-models/keda/keda.sh/v1alpha1/index.js';
        import(path).then((keda) => {
          new keda[input.kind](input).validate();
          console.log('true');
        });
    """
    node(program, document)

program = READ + "console.log(JSON.stringify(require('dockerfile-utils').validate(input)))"
problems = node(program, (FOLDER / "container/Containerfile").read_text())
if problems:
    sys.exit(f"Containerfile: {problems}")

documents = list(yaml.safe_load_all((FOLDER / "kubernetes/deployment.yaml").read_text()))
configuration = next(it for it in documents if it["kind"] == "ConfigMap")["data"]["pushrider.toml"]
(Path(sys.argv[1]) / "kubernetes.toml").write_text(configuration)
