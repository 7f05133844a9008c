// `node native/engine/adapt.mjs FILE`: changes the C that wasm2c made of quickjs.wasm, in place, to fit module.c. Each change says how often it has to
// be found; another version of either that looks different fails here.
import { readFileSync, writeFileSync } from 'node:fs';

/** [why, what, its replacement, how often]: Infinity is once or more. */
const CHANGES = [
  // module.c has functions of its own in the place of these: declared and defined here under another name.
  [
    'own functions',
    /^(static [a-z0-9]+ )w2c_((?:js_(?:malloc|calloc|realloc|free|malloc_usable_size)_rt|js_malloc_usable_size|JS_FreeValue(?:RT)?|JS_DefineProperty|f93|f120|f208)\(Z_qjs_instance_t\* instance)/gm,
    '$1generated_$2',
    12,
  ],
  // Linear memory is one array at a place known to the compiler, so that an access need not look for it, and no address leads out of it: none is checked.
  // (A quarter of the time of a call.)
  ['one array', /&mem->data\[addr\]/g, '&engine_space[addr]', 2],
  ['no checks', /(define MEMCHECK\(mem, a, t\)) RANGE_CHECK.*/g, '$1', 1],
  [
    'always inside',
    /(&instance->w2c_memory, )\(u64\)\((w2c_[a-z0-9_]+)\)(?: \+ ([0-9]+)u?)?/g,
    (_, memory, base, more = '') => `${memory}PLACE(${base}, ${more})`,
    Infinity,
  ],
  ['inlined', /^ {2}static inline (t3|void) name/gm, '  static inline __attribute__((always_inline)) $1 name', 4],
  // A read needs no fault of its own: one that nobody uses can go, others become part of the instruction that uses them.
  ['plain reads', /wasm_asm\("" ::"r"\(result\)\);/g, ' ', 2],
  // The function table is the constant that the generated code fills it from, with one function of ours behind (module.c): nothing is filled at a start.
  ['own table', /define CALL_INDIRECT\(/g, 'define TABLE_CALL_INDIRECT(', 1],
  ['constant table', /instance->w2c___indirect_function_table\.data\[[^\]]*\]\.module_instance/g, 'instance', Infinity],
  // What the engine would print of its own doings, when told to: it asks before each instruction. Nobody can tell it (start.c compares the place).
  [
    'no dumps',
    /i32_load8_u\(&instance->w2c_memory, PLACE\((w2c_i\d), 75[34]\)\)(?=;\n +(w2c_i\d) = (?:1|2|4|8|16|32|64|128)u;\n +\1 &= \2;)/g,
    '0u',
    260,
  ],
];

const fail = (why) => {
  throw new Error(`${process.argv[2]}: ${why}: not the code this was written for`);
};

let text = readFileSync(process.argv[2], 'utf8');
for (const [why, what, replacement, times] of CHANGES) {
  const found = text.match(what)?.length ?? 0;
  if (found !== times && (found === 0 || times !== Infinity)) fail(`${why}: found ${found} times`);
  text = text.replace(what, replacement);
}
if (text.includes('w2c_memory, (u64)')) fail('an address that is not kept inside');
writeFileSync(process.argv[2], text);
