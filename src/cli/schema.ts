/** `tsrun build --schema`: what editors check YAML recipes by. */
import schema from '../recipe/yaml.schema.json' with { type: 'json' };

export const schemaText = (): string => `${JSON.stringify(schema, undefined, 2)}\n`;
