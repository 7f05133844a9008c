/** Names in a Dockerfile: earlier stages, and images. */
import { parseReference, parseRegistryReference } from '../oci/reference.ts';
import { TsrunError } from '../util/errors.ts';
import { quote, recipeError, refuse, refuseStage, refuseUnsupported } from './errors.ts';
import type { Origin, Place } from './spec.ts';

/** Of all stages of the file, in order; lower case. */
export type StageNames = readonly (string | undefined)[];

/**
 * What `tsrun build` takes for an image that FROM or --from names. Beside names of a registry: what has a scheme that no image name has
 * (`oci-archive:x.tar`, as podman takes it), and files (`./base.sif`).
 * @throws TsrunError E_RECIPE
 */
export const imageReference = (name: string, at: Place): string => {
  const plain =
    /^(?:docker:\/\/|oci:|oci-archive:|docker-archive:|tar:.*[/.])/.test(name) || /^(?:\/|\.\.?\/)|\.(?:sif|sqsh|squashfs)$/.test(name);
  try {
    if (plain) parseReference(name);
    else parseRegistryReference(name);
  } catch (error) {
    if (!(error instanceof TsrunError)) throw error;
    throw recipeError('E_RECIPE', at, `${quote(name)} is no image name: ${error.why}`, error.hint);
  }
  return plain ? name : `docker://${name}`;
};

/**
 * Index of an earlier stage called so, by name (the last of that name) or number; undefined: there is none.
 * @throws TsrunError E_RECIPE_STAGE for the stage itself and later ones: so stages cannot need each other in a circle
 */
export const earlierStage = (name: string, current: number, stages: StageNames, at: Place): number | undefined => {
  const wanted = name.toLowerCase();
  const index = stages.lastIndexOf(wanted, current - 1);
  if (current > 0 && index >= 0) return index;
  const later = stages.indexOf(wanted, current);
  if (later < 0) return undefined;
  const why = later === current ? `the stage ${quote(name)} takes from itself` : `the stage ${quote(name)} comes later`;
  return refuseStage(at, why, 'a stage can take from those above it; move it up');
};

/** What `--build-context NAME=…` gives: it goes before stages and images of that name. */
export type NamedContext = { readonly kind: 'directory'; readonly path: string } | { readonly kind: 'image'; readonly reference: string };
/** By name, lower case. */
export type NamedContexts = ReadonlyMap<string, NamedContext>;

/** `--from=…` of COPY, ADD and mounts. @throws TsrunError E_RECIPE, E_RECIPE_STAGE, E_RECIPE_UNSUPPORTED */
export const originOf = (name: string, current: number, stages: StageNames, at: Place, contexts: NamedContexts = new Map()): Origin => {
  const given = contexts.get(name.toLowerCase());
  if (given?.kind === 'directory') return { kind: 'context', directory: given.path };
  if (given !== undefined) return given;
  if (name === '') return refuse(at, '--from is empty', 'expected the name of a stage or image');
  if (name.includes('$')) {
    return refuseUnsupported(
      at,
      `there is a variable in --from=${name}`,
      'give it a stage: FROM IMAGE AS NAME may hold variables; then --from=NAME',
    );
  }
  if (/^[0-9]{1,9}$/.test(name)) {
    const index = Number(name);
    if (index < current) return { kind: 'stage', index };
    const why = index === current ? 'the stage takes from itself' : `there is no earlier stage ${index}`;
    return refuseStage(at, why, current === 0 ? 'this is the first stage' : `stages above this one: 0 to ${current - 1}`);
  }
  const index = earlierStage(name, current, stages, at);
  if (index !== undefined) return { kind: 'stage', index };
  if (name === 'scratch') return refuse(at, 'nothing can be taken from scratch', 'expected the name of a stage or image');
  return { kind: 'image', reference: imageReference(name, at) };
};
