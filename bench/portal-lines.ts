/** How many lines of code a portal needs to speak to Chamberlain, counted in the example of one. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

const FILE = join(import.meta.dirname, '../examples/django-portal/portal/chamberlain.py');

/** The lines with a token of Python that is neither a comment nor part of a docstring. */
const COUNT = `
import ast, sys, tokenize
text = open(sys.argv[1]).read()
texts = [node.value for node in ast.walk(ast.parse(text))
         if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
docs = {line for each in texts for line in range(each.lineno, each.end_lineno + 1)}
spaces = {getattr(tokenize, name) for name in
          ("COMMENT", "NL", "NEWLINE", "INDENT", "DEDENT", "ENDMARKER", "ENCODING")}
tokens = tokenize.generate_tokens(iter(text.splitlines(True)).__next__)
code = {line for each in tokens if each.type not in spaces for line in range(each.start[0], each.end[0] + 1)}
print(len(code - docs))
`;

/** Counts without blank lines, comments and docstrings; by Python's own parser. */
export function countPortalLines(file = FILE): number {
  return Number(execFileSync('/usr/bin/python3', ['-c', COUNT, file], { encoding: 'utf8' }));
}
