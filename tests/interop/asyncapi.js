'use strict';
// Reads {"path"} and writes the errors that AsyncAPI's own parser finds in the document.
const fs = require('node:fs');
const { Parser, fromFile } = require('@asyncapi/parser');

const ERROR = 0;
const { path } = JSON.parse(fs.readFileSync(0, 'utf8'));
fromFile(new Parser(), path).parse().then(({ document, diagnostics }) => {
  const errors = diagnostics.filter((it) => it.severity === ERROR).map((it) => `${it.path.join('.')}: ${it.message}`);
  const operations = document ? document.operations().all().map((it) => it.id()) : [];
  process.stdout.write(JSON.stringify({ errors, operations }));
});
