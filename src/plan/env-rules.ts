/**
 * Host variables that stay outside, and why. They name files of the host (which the image does not have, or has in another version), load code
 * into every program, or change results without anybody asking for it. `--host-env` keeps them; docs/environment.md is printed from this table.
 */
import { wordsOf } from '../util/host.ts';
import { LOCALE_VARIABLES } from './locale.ts';

export type EnvRule = {
  /** Whole names; with `*` at the end, all that begin so. */
  readonly names: readonly string[];
  readonly why: string;
  /** True: worth telling the user when it is left out, since the result may depend on it. */
  readonly tell: boolean;
  /** `--host-python` keeps it too. */
  readonly python?: true;
};

export const ENV_RULES: readonly EnvRule[] = [
  {
    names: ['PYTHONPATH', 'PYTHONHOME', 'PYTHONSTARTUP', 'PYTHONUSERBASE', 'PYTHONEXECUTABLE', 'PYTHONPLATLIBDIR', 'PYTHONPYCACHEPREFIX'],
    why: "would mix the host's Python packages into the image's Python",
    tell: true,
    python: true,
  },
  {
    names: ['LD_LIBRARY_PATH', 'LD_PRELOAD', 'LD_AUDIT', 'LD_ORIGIN_PATH', 'LD_PREFER_MAP_32BIT_EXEC', 'GCONV_PATH', 'LOCPATH', 'NLSPATH'],
    why: "would load the host's libraries into the image's programs",
    tell: true,
  },
  {
    names: [
      'LIBRARY_PATH',
      'LD_RUN_PATH',
      'CPATH',
      'C_INCLUDE_PATH',
      'CPLUS_INCLUDE_PATH',
      'OBJC_INCLUDE_PATH',
      'PKG_CONFIG_PATH',
      'PKG_CONFIG_LIBDIR',
      'CMAKE_PREFIX_PATH',
      'CMAKE_MODULE_PATH',
      'ACLOCAL_PATH',
    ],
    why: "would compile against the host's headers and libraries",
    tell: true,
  },
  {
    names: ['PERL5LIB', 'PERLLIB', 'PERL5OPT', 'PERL_LOCAL_LIB_ROOT', 'PERL_MB_OPT', 'PERL_MM_OPT'],
    why: "would mix the host's Perl modules into the image's Perl",
    tell: true,
  },
  {
    names: ['R_LIBS*', 'R_HOME', 'R_PROFILE', 'R_PROFILE_USER', 'R_ENVIRON', 'R_ENVIRON_USER', 'R_SHARE_DIR', 'R_INCLUDE_DIR', 'R_DOC_DIR'],
    why: "would mix the host's R packages into the image's R",
    tell: true,
  },
  {
    names: [
      'CONDA_*',
      '_CONDA_*',
      '_CE_CONDA',
      '_CE_M',
      'MAMBA_*',
      'VIRTUAL_ENV',
      'VIRTUAL_ENV_PROMPT',
      'PIXI_*',
      'PYENV_*',
      'PIPENV_ACTIVE',
      'POETRY_ACTIVE',
    ],
    why: 'name an environment of the host that is not active in the image',
    tell: true,
  },
  {
    names: ['JULIA_*'],
    why: "would mix the host's Julia packages and settings into the image's Julia (JULIA_NUM_THREADS is passed)",
    tell: true,
  },
  {
    names: [
      'GEM_HOME',
      'GEM_PATH',
      'RUBYLIB',
      'RUBYOPT',
      'BUNDLE_GEMFILE',
      'BUNDLE_PATH',
      'NODE_PATH',
      'NODE_OPTIONS',
      'NPM_CONFIG_PREFIX',
      'npm_config_prefix',
      'LUA_PATH*',
      'LUA_CPATH*',
      'GOROOT',
      'GOPATH',
      'GOBIN',
      'RUSTUP_HOME',
      'CARGO_HOME',
      'GUILE_LOAD_PATH',
      'GUILE_LOAD_COMPILED_PATH',
      'OCTAVE_PATH',
      'MATLABPATH',
      'TCLLIBPATH',
      'TCL_LIBRARY',
      'TK_LIBRARY',
    ],
    why: "would mix the host's packages into the image's interpreter",
    tell: true,
  },
  {
    names: [
      'CLASSPATH',
      'JAVA_HOME',
      'JDK_HOME',
      'JRE_HOME',
      'JAVA_TOOL_OPTIONS',
      '_JAVA_OPTIONS',
      'JDK_JAVA_OPTIONS',
      'MAVEN_HOME',
      'GRADLE_HOME',
    ],
    why: "name the host's Java",
    tell: true,
  },
  {
    names: [
      'CUDA_HOME',
      'CUDA_PATH',
      'CUDA_ROOT',
      'CUDADIR',
      'NVHPC*',
      'MKLROOT',
      'I_MPI_ROOT',
      'MPI_HOME',
      'MPI_ROOT',
      'OPAL_PREFIX',
      'PRTE_PREFIX',
      'PMIX_INSTALL_PREFIX',
      'FI_PROVIDER_PATH',
      'UCX_MODULE_DIR',
      'HDF5_PLUGIN_PATH',
      'PROJ_LIB',
      'PROJ_DATA',
      'GDAL_DATA',
      'GDAL_DRIVER_PATH',
      'ROOTSYS',
      'MAGIC',
    ],
    why: 'name an installation of the host',
    tell: true,
  },
  {
    names: [
      'QT_PLUGIN_PATH',
      'QT_QPA_PLATFORM_PLUGIN_PATH',
      'QML2_IMPORT_PATH',
      'QML_IMPORT_PATH',
      'GTK_PATH',
      'GTK_MODULES',
      'GTK3_MODULES',
      'GTK_IM_MODULE_FILE',
      'GIO_MODULE_DIR',
      'GIO_EXTRA_MODULES',
      'GSETTINGS_SCHEMA_DIR',
      'GI_TYPELIB_PATH',
      'GDK_PIXBUF_MODULE_FILE',
      'GDK_PIXBUF_MODULEDIR',
      'FONTCONFIG_FILE',
      'FONTCONFIG_PATH',
      'XDG_DATA_DIRS',
      'XDG_CONFIG_DIRS',
      'VK_ICD_FILENAMES',
      'VK_DRIVER_FILES',
      'OCL_ICD_VENDORS',
      'LIBGL_DRIVERS_PATH',
    ],
    why: 'name plugins and data of the host',
    tell: false,
  },
  {
    names: [
      'BASH_ENV',
      'ENV',
      'BASH_FUNC_*',
      'ZDOTDIR',
      'FPATH',
      'SHELLOPTS',
      'BASHOPTS',
      'CDPATH',
      'GLOBIGNORE',
      'PROMPT_COMMAND',
      'PS0',
      'PS1',
      'PS2',
      'PS4',
      'POSIXLY_CORRECT',
      'IFS',
    ],
    why: "would run the host's start-up code, or change how scripts work",
    tell: false,
  },
  { names: ['SHELL'], why: 'the image may not have that shell; programs take its sh', tell: false },
  {
    names: [
      'MODULEPATH',
      'MODULESHOME',
      'MODULES_*',
      'LOADEDMODULES',
      '_LMFILES_*',
      '__MODULES_*',
      'LMOD_*',
      '__LMOD_*',
      '_ModuleTable*',
      'MODULERCFILE',
      'SPACK_*',
      'EASYBUILD_*',
      'NIX_*',
      'GUIX_*',
      '__ETC_PROFILE_NIX_SOURCED',
    ],
    why: 'the module system and package manager of the host do not work in the image',
    tell: false,
  },
  {
    names: [
      'MANPATH',
      'INFOPATH',
      'TERMINFO',
      'TERMINFO_DIRS',
      'LESSOPEN',
      'LESSCLOSE',
      'MAIL',
      'MAILCHECK',
      'HOSTALIASES',
      'OLDPWD',
      '_',
      'INVOCATION_ID',
      'JOURNAL_STREAM',
      'NOTIFY_SOCKET',
      'LISTEN_PID',
      'LISTEN_FDS',
      'LISTEN_FDNAMES',
    ],
    why: 'points to something of the host process or its files',
    tell: false,
  },
  {
    names: ['TSRUN_*', 'TSRUNENV_*', 'APPTAINER_*', 'APPTAINERENV_*', 'SINGULARITY_*', 'SINGULARITYENV_*'],
    why: 'is meant for tsrun itself',
    tell: false,
  },
];

/** Of a family that is left out, but harmless: asked for, and the same on every machine. */
const HARMLESS: readonly string[] = ['JULIA_NUM_THREADS', 'JULIA_NUM_PRECOMPILE_TASKS', 'JULIA_CPU_THREADS'];

/** What tsrun sets where the host does not. */
const DEFAULTED: readonly string[] = ['PYTHONNOUSERSITE'];

/** What `--cleanenv` keeps. */
export const CLEAN_NAMES: readonly string[] = [
  'TERM',
  ...['http_proxy', 'https_proxy', 'ftp_proxy', 'all_proxy', 'no_proxy'].flatMap((name) => [name, name.toUpperCase()]),
];

/** Variables that hold a path: shown in the run at the same path, or left out. */
const PATH_VARIABLES: readonly { readonly name: string; readonly kind: 'directory' | 'file' }[] = [
  { name: 'TMPDIR', kind: 'directory' },
  { name: 'TMP', kind: 'directory' },
  { name: 'TEMP', kind: 'directory' },
  { name: 'TEMPDIR', kind: 'directory' },
  { name: 'XDG_RUNTIME_DIR', kind: 'directory' },
  { name: 'KRB5CCNAME', kind: 'file' },
  { name: 'SSL_CERT_FILE', kind: 'file' },
  { name: 'SSL_CERT_DIR', kind: 'directory' },
  { name: 'REQUESTS_CA_BUNDLE', kind: 'file' },
  { name: 'CURL_CA_BUNDLE', kind: 'file' },
  { name: 'GIT_SSL_CAINFO', kind: 'file' },
  { name: 'PMIX_SERVER_TMPDIR', kind: 'directory' },
];

/** Variables that a run has of its own, whatever the host has. */
export const OWN_VARIABLES: readonly string[] = ['HOME', 'PATH', 'PWD'];

/** What becomes of a host variable of which the tables speak. */
export type Treatment =
  | { readonly kind: 'passed' }
  /** It is passed, and takes the place of what tsrun sets elsewhere. */
  | { readonly kind: 'given' }
  | { readonly kind: 'outside'; readonly rule: EnvRule }
  | { readonly kind: 'path'; readonly shown: 'directory' | 'file' }
  | { readonly kind: 'locale' };

/** `words` as the host looks for them (Host.environ), and by the number of each what becomes of the variables it names. */
export type Spoken = { readonly words: string; readonly treatments: readonly Treatment[] };

/** Made at the first question and kept. */
let spoken: Spoken | undefined;

/** All host variables that are not simply passed in, as the tables have them. */
export const spokenOf = (): Spoken => {
  if (spoken !== undefined) return spoken;
  const words: string[] = [];
  const treatments: Treatment[] = [];
  const add = (word: string, treatment: Treatment): void => {
    words.push(word);
    treatments.push(treatment);
  };
  // The first word that names a variable counts: what is an exception to another comes before it.
  for (const name of HARMLESS) add(name, { kind: 'passed' });
  for (const name of DEFAULTED) add(name, { kind: 'given' });
  for (const rule of ENV_RULES) for (const name of rule.names) add(name, { kind: 'outside', rule });
  for (const { name, kind } of PATH_VARIABLES) add(name, { kind: 'path', shown: kind });
  for (const name of LOCALE_VARIABLES) add(name, { kind: 'locale' });
  spoken = { words: wordsOf(words), treatments };
  return spoken;
};

/** True when a list of names, some with `*` at the end, names `name`. */
export const namesMatch = (patterns: readonly string[], name: string): boolean =>
  patterns.some((pattern) => (pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : pattern === name));
