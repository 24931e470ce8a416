//! Files of the library do not import each other in circles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use regex::Regex;

use crate::sources::{rust_files, without_tests};

/// A path of modules below the crate, such as `["gate", "rate"]`.
type Module = Vec<String>;

fn module_of(path: &Path) -> Module {
    let path = path.strip_prefix("src").unwrap().with_extension("");
    let mut parts: Module = path
        .iter()
        .map(|part| part.to_str().unwrap().to_owned())
        .collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib")) {
        parts.pop();
    }
    parts
}

/// A path that a file names: where it imports it, or where it uses it without an import.
struct Import {
    path: String,
    /// Whether the file only passes the name on.
    is_reexport: bool,
}

/// Returns every path that a text names: `use a::{b, c::d};` is `a::b` and `a::c::d`.
fn imports(text: &str) -> Vec<Import> {
    let skipped = Regex::new(r"(?m)^\s*//.*$|\(in [a-z_:]+\)").unwrap();
    let usage = Regex::new(r"(?m)^\s*(pub(?:\([a-z: ]+\))? )?use ([^;]*);").unwrap();
    let path = Regex::new(r"(?:crate|super|self)(?:::\w+)+").unwrap();
    let child = Regex::new(r"(?m)^\s*(?:pub(?:\([a-z: ]+\))? )?mod (\w+);").unwrap();
    let text = &skipped.replace_all(text, "");
    let code = &usage.replace_all(text, "");
    let is_used = |name: &str| {
        let word = Regex::new(&format!(r"(?-u:\b){name}(?-u:\b)")).unwrap();
        word.is_match(code)
    };
    let mut found = Vec::new();
    for usage in usage.captures_iter(text) {
        let tree: String = usage[2].split_whitespace().collect();
        let (prefix, names) = tree.split_once('{').unwrap_or((&tree, ""));
        let names = names
            .strip_suffix('}')
            .unwrap_or(names)
            .trim_end_matches(',');
        assert!(!names.contains('{'), "imports are not nested: {tree}");
        for name in names.split(',') {
            let path = format!("{prefix}{name}");
            let last = path.rsplit("::").next().unwrap_or_default();
            let is_reexport = usage.get(1).is_some() && !is_used(last);
            found.push(Import { path, is_reexport });
        }
    }
    let children = child.captures_iter(text).map(|it| it[1].to_owned());
    let called = children.filter(|name| code.contains(&format!("{name}::")));
    let named = path.find_iter(code).map(|it| it.as_str().to_owned());
    let paths = called.map(|name| format!("self::{name}")).chain(named);
    found.extend(paths.map(|path| Import {
        path,
        is_reexport: false,
    }));
    found
}

/// The files of the library, and what they import.
struct Library(BTreeMap<Module, Vec<Import>>);

impl Library {
    /// Resolves an import of a module to the module that defines what it names.
    fn target(&self, import: &str, from: &Module) -> Option<Module> {
        let mut parts = import.split("::").peekable();
        let mut at = match parts.next()? {
            "crate" => Module::new(),
            "self" => from.clone(),
            "super" => from[..from.len() - 1].to_vec(),
            _ => return None,
        };
        while parts.next_if_eq(&"super").is_some() {
            at.pop();
        }
        while let Some(part) = parts.peek() {
            let deeper = [at.as_slice(), &[(*part).to_owned()]].concat();
            if !self.0.contains_key(&deeper) {
                break;
            }
            at = deeper;
            parts.next();
        }
        let name = parts.next();
        let reexport = self.0.get(&at)?.iter().find(|import| {
            import.is_reexport
                && name.is_some_and(|name| import.path.ends_with(&format!("::{name}")))
        });
        match reexport {
            Some(reexport) => self.target(&reexport.path, &at),
            None => Some(at),
        }
    }

    fn edges(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let targets = |(module, imports): (_, &Vec<Import>)| {
            let used = imports.iter().filter(|import| !import.is_reexport);
            let targets = used.filter_map(|import| self.target(&import.path, module));
            (module, targets.filter(|to| to != module).collect())
        };
        self.0.iter().map(targets).collect()
    }
}

/// Returns whether `to` imports `from`, at first or at last.
fn leads_back(edges: &BTreeMap<&Module, BTreeSet<Module>>, from: &Module, to: &Module) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![to]);
    while let Some(module) = open.pop() {
        if module == from {
            return true;
        }
        if seen.insert(module) {
            open.extend(edges.get(module).into_iter().flatten());
        }
    }
    false
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let files = rust_files("src")
        .into_iter()
        .filter(|(path, _)| !path.iter().any(|part| part == "tests") && !path.ends_with("main.rs"))
        .map(|(path, text)| (module_of(&path), imports(without_tests(&text))))
        .collect();
    let library = Library(files);
    let edges = library.edges();
    let count: usize = edges.values().map(BTreeSet::len).sum();
    assert!(count > 500, "only {count} imports were found");
    let circles: Vec<_> = edges
        .iter()
        .flat_map(|(from, targets)| targets.iter().map(move |to| (*from, to)))
        .filter(|(from, to)| leads_back(&edges, from, to))
        .map(|(from, to)| format!("{} imports {}", from.join("::"), to.join("::")))
        .collect();
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}
