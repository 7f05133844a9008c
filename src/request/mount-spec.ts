/**
 * What people write after --bind, --mount and --home. Pure text: sources may still be relative, targets are absolute and clean.
 * Grammar as Apptainer's (its userdocs, "Bind Paths and Mounts"): commas separate specs, `:` the fields, `\` takes the next of the two literally.
 */
import { TsrunError } from '../util/errors.ts';
import { cleanPath, isTooLong } from '../util/paths.ts';

export type BindSpec = {
  readonly source: string;
  /** Clean absolute path inside the run; undefined: the same path as the source, once that is made absolute. */
  readonly target: string | undefined;
  readonly readOnly: boolean;
};

const refuse: (flag: string, text: string, why: string, hint: string) => never = (flag, text, why, hint) => {
  throw new TsrunError({ code: 'E_BIND_SPEC', what: `cannot use ${flag} ${text}`, why, hint });
};

const EXPECTED = 'write SRC[:DST[:ro|rw]], with "\\" before a colon or comma that belongs to a name';
/** Fields of each spec: split at unescaped commas, then colons. */
const splitSpecs = (text: string): string[][] => {
  if (!text.includes('\\')) return text.split(',').map((spec) => spec.split(':'));
  const specs: string[][] = [];
  let fields: string[] = [];
  let field = '';
  for (let at = 0; at < text.length; at++) {
    const char = text[at] ?? '';
    const next = text[at + 1] ?? '';
    if (char === '\\' && (next === ',' || next === ':' || next === '\\')) {
      field += next;
      at++;
    } else if (char === ':' || char === ',') {
      fields.push(field);
      field = '';
      if (char === ',') {
        specs.push(fields);
        fields = [];
      }
    } else field += char;
  }
  fields.push(field);
  specs.push(fields);
  return specs;
};

const checkTarget = (flag: string, text: string, target: string): string => {
  if (target === 'ro' || target === 'rw')
    refuse(
      flag,
      text,
      `"${target}" stands where the target is expected`,
      `the target comes first: SRC:DST:${target}, or SRC::${target} for the same path`,
    );
  if (!target.startsWith('/')) refuse(flag, text, `${target} is not an absolute path`, 'begin the path inside the image with /');
  const clean = cleanPath(target);
  if (isTooLong(clean))
    refuse(flag, `${text.slice(0, 80)}...`, 'a path or a name in it is too long', 'names have at most 255 bytes, paths 4095');
  if (clean === '/') refuse(flag, text, 'nothing can be shown at / itself', 'choose a directory below /');
  return clean;
};

/** The value of --bind or of a BIND variable. Errors: E_BIND_SPEC. `flag` is named in them. */
export const parseBinds = (flag: string, text: string): BindSpec[] => {
  const specs = splitSpecs(text).filter((fields) => fields.length > 1 || fields[0] !== '');
  return specs.map((fields) => {
    const [source = '', target = '', option = '', ...more] = fields;
    if (source === '') refuse(flag, text, 'a source is empty', EXPECTED);
    if (more.length > 0) refuse(flag, text, 'a spec has more than three fields', EXPECTED);
    if (/^(image-src|id)=/.test(option)) {
      refuse(
        flag,
        text,
        `"${option}" (files out of an image) is not available yet`,
        'extract them first: tsrun image extract IMAGE PATH DIR',
      );
    }
    if (option !== '' && option !== 'ro' && option !== 'rw') refuse(flag, text, `unknown option "${option}"`, 'known are ro and rw');
    return { source, target: target === '' ? undefined : checkTarget(flag, text, target), readOnly: option === 'ro' };
  });
};

const escapeField = (path: string): string => path.replace(/[\\,:]/g, '\\$&');

/** The --bind spelling of a spec: parseBinds of it gives the spec again. */
export const printBind = (spec: BindSpec): string =>
  escapeField(spec.source) +
  (spec.target === undefined && !spec.readOnly ? '' : `:${escapeField(spec.target ?? '')}`) +
  (spec.readOnly ? ':ro' : '');

/** One CSV line (RFC 4180): fields in double quotes may hold commas; a doubled quote is a quote. */
const splitCsv = (line: string): string[] | null => {
  const fields: string[] = [];
  let at = 0;
  for (;;) {
    let field = '';
    if (line[at] === '"') {
      for (;;) {
        const quote = line.indexOf('"', at + 1);
        if (quote < 0) return null;
        field += line.slice(at + 1, quote);
        at = quote + 1;
        if (line[at] !== '"') break;
        field += '"';
      }
      if (at < line.length && line[at] !== ',') return null;
    } else {
      const comma = line.indexOf(',', at);
      const end = comma < 0 ? line.length : comma;
      field = line.slice(at, end);
      if (field.includes('"')) return null;
      at = end;
    }
    fields.push(field);
    if (at >= line.length) return fields;
    at++;
  }
};

/** The value of --mount. Errors: E_BIND_SPEC. */
export const parseMount = (flag: string, text: string): BindSpec => {
  const fields =
    splitCsv(text) ?? refuse(flag, text, 'a double quote is not closed or stands inside a field', 'put whole fields in double quotes');
  let type = '';
  let source = '';
  let target = '';
  let readOnly = false;
  for (const field of fields) {
    const equals = field.indexOf('=');
    const key = equals < 0 ? field : field.slice(0, equals);
    const value = equals < 0 ? '' : field.slice(equals + 1);
    if (key === 'type') type = value;
    else if (key === 'source' || key === 'src') source = value;
    else if (key === 'destination' || key === 'dst' || key === 'target') target = value;
    else if (key === 'ro' || key === 'readonly') {
      if (!/^(|true|1|false|0)$/.test(value))
        refuse(flag, text, `"${field}" is neither yes nor no`, `write ${key}, ${key}=true or ${key}=false`);
      readOnly = value === '' || value === 'true' || value === '1';
    } else if (field === 'rw' || key === 'nonested') continue;
    else if (key === 'image-src' || key === 'id') {
      refuse(flag, text, `"${key}" (files out of an image) is not available yet`, 'extract them first: tsrun image extract IMAGE PATH DIR');
    } else if (equals < 0 && key.includes(':')) refuse(flag, text, `"${key}" is not a field`, `write --bind ${key}`);
    else refuse(flag, text, `unknown field "${key}"`, 'known are type, source, target and readonly');
  }
  if (type !== 'bind') refuse(flag, text, type === '' ? 'the type is missing' : `type ${type} is not known`, 'begin with type=bind,');
  if (source === '') refuse(flag, text, 'the source is missing', 'add source=PATH');
  if (target === '') refuse(flag, text, 'the target is missing', 'add target=PATH');
  return { source, target: checkTarget(flag, text, target), readOnly };
};

/** The value of --home. Errors: E_BIND_SPEC. */
export const parseHome = (flag: string, text: string): { readonly source: string; readonly target: string | undefined } => {
  const [fields, ...more] = splitSpecs(text);
  const [source = '', target = '', ...rest] = fields ?? [];
  if (more.length > 0 || rest.length > 0) refuse(flag, text, 'it names more than a source and a target', 'write SRC[:DST]');
  if (source === '') refuse(flag, text, 'the source is empty', 'write SRC[:DST]');
  return { source, target: target === '' ? undefined : checkTarget(flag, text, target) };
};
