'use strict';
// Reads {"text"} and writes the documents of that YAML stream.
const fs = require('node:fs');
const yaml = require('js-yaml');

const { text } = JSON.parse(fs.readFileSync(0, 'utf8'));
process.stdout.write(JSON.stringify({ documents: yaml.loadAll(text) }));
