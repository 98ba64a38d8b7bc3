/** What each benchmark measures, its goal, and its sizes. */
import type { Goal } from './tools/figure.ts';

export const GOALS = {
  idleP50: { figure: 'idle_p50_ms', unit: 'ms', goal: 60, better: 'less' },
  idleP99: { figure: 'idle_p99_ms', unit: 'ms', goal: 150, better: 'less' },
  load: { figure: 'load_ratio', unit: "of the floor's tools/s", goal: 0.5, better: 'more' },
  loadCpu: {
    figure: 'load_cpu_ratio',
    unit: "of the floor's processor time a tool",
    goal: 0.4,
    better: 'more',
  },
  revoke: { figure: 'revoke_p95_ms', unit: 'ms', goal: 2000, better: 'less' },
  growth: {
    figure: 'growth_ratio',
    unit: "of the empty realm's p50 in ms",
    goal: 1.6,
    better: 'less',
  },
  growthOverFloor: {
    figure: 'growth_over_floor',
    unit: 'ms more, where the same statements alone take one more',
    goal: 1.2,
    better: 'less',
  },
  memory: { figure: 'memory_mib', unit: 'MiB', goal: 250, better: 'less' },
  portals: { figure: 'portals_ratio', unit: "of one portal's tools/s", goal: 0.9, better: 'more' },
  junk: { figure: 'junk_revoke_p95_ms', unit: 'ms', goal: 2000, better: 'less' },
  events: { figure: 'events_per_second', unit: 'events/s', goal: 2000, better: 'more' },
  backlog: {
    figure: 'beside_backlog_ratio',
    unit: 'of the p50 without, in ms',
    goal: 3,
    better: 'less',
  },
} as const satisfies Record<string, Goal>;

/** The sizes of the chain benchmark. */
export interface Size {
  idleTools: number;
  loadTools: number;
  revokes: number;
  /** tools created alternately in the empty and in the filled realm: turns × tools each */
  growthTurns: number;
  growthTools: number;
  /** of each turn, by one portal and by eight */
  portalTools: number;
  junk: number;
  junkRevokes: number;
  backlog: number;
  besideTools: number;
  tools: number;
  people: number;
}

export const FULL: Size = {
  idleTools: 200,
  loadTools: 2000,
  revokes: 20,
  growthTurns: 5,
  growthTools: 40,
  portalTools: 400,
  junk: 100_000,
  junkRevokes: 20,
  backlog: 50_000,
  besideTools: 50,
  tools: 10_000,
  people: 30_000,
};
/** For trying the benchmark itself: its figures mean nothing. */
export const QUICK: Size = {
  idleTools: 20,
  loadTools: 100,
  revokes: 4,
  growthTurns: 2,
  growthTools: 10,
  portalTools: 40,
  junk: 2000,
  junkRevokes: 4,
  backlog: 1000,
  besideTools: 5,
  tools: 200,
  people: 600,
};

/** The goals of a lookup, a change and a login. */
export const LOGIN_GOALS = {
  lookupTrue: {
    figure: 'lookup_p50_ratio_true',
    unit: "of /bin/true's p50 in ms",
    goal: 2,
    better: 'less',
  },
  lookupSss: {
    figure: 'lookup_p50_ratio_sss',
    unit: "of sss_ssh_authorizedkeys's p50 in ms",
    goal: 0.3,
    better: 'less',
  },
  lookupWorst: { figure: 'lookup_p999_ms', unit: 'ms', goal: 50, better: 'less' },
  lookup200: {
    figure: 'lookup_200_ratio_true',
    unit: "of /bin/true's p50 in ms",
    goal: 4,
    better: 'less',
  },
  changeP50: { figure: 'change_p50_ms', unit: 'ms', goal: 400, better: 'less' },
  changeP99: { figure: 'change_p99_ms', unit: 'ms', goal: 1000, better: 'less' },
  id: { figure: 'id_p50_ms', unit: 'ms', goal: 10, better: 'less' },
  become: {
    figure: 'become_p50_ratio',
    unit: 'of the p50 among ten tools, in ms',
    goal: 1.5,
    better: 'less',
  },
  coldStart: { figure: 'cold_start_ms', unit: 'ms', goal: 6000, better: 'less' },
  restart: { figure: 'restart_ms', unit: 'ms', goal: 2000, better: 'less' },
  // of both programs together
  resident: { figure: 'resident_mib', unit: 'MiB', goal: 200, better: 'less' },
  rest: { figure: 'rest_cpu_percent', unit: '% of a core', goal: 2, better: 'less' },
  login: {
    figure: 'login_ratio',
    unit: "of a static file's p50 in ms",
    goal: 1.1,
    better: 'less',
  },
} as const satisfies Record<string, Goal>;

/** The sizes of the login host benchmark. */
export interface LoginSize {
  people: number;
  tools: number;
  /** starts with nothing known yet; their median counts */
  coldStarts: number;
  restarts: number;
  /** long enough for several comparisons of everything, which come once a minute */
  restMs: number;
  /** for programs that do next to nothing */
  floorRestMs: number;
  /** of keys, and as many of memberships */
  changes: number;
  /** lookups by authorized-keys, each of another one of `lookupUsers` */
  lookups: number;
  lookupUsers: number;
  /** the other lookups, among them */
  lookups200: number;
  lookupsSss: number;
  lookupsLdapsearch: number;
  ids: number;
  /** of each kind, among all tools and among ten */
  becomes: number;
  logins: number;
}

export const LOGIN_FULL: LoginSize = {
  people: 30_000,
  tools: 10_000,
  coldStarts: 3,
  restarts: 3,
  restMs: 120_000,
  floorRestMs: 30_000,
  changes: 240,
  lookups: 5000,
  lookupUsers: 10_000,
  lookups200: 1000,
  lookupsSss: 1000,
  lookupsLdapsearch: 250,
  ids: 1000,
  becomes: 200,
  logins: 250,
};
/** For trying the benchmark itself: its figures mean nothing. */
export const LOGIN_QUICK: LoginSize = {
  people: 600,
  tools: 200,
  coldStarts: 2,
  restarts: 2,
  restMs: 5000,
  floorRestMs: 2000,
  changes: 10,
  lookups: 200,
  lookupUsers: 400,
  lookups200: 40,
  lookupsSss: 40,
  lookupsLdapsearch: 10,
  ids: 40,
  becomes: 20,
  logins: 10,
};

/** The goals of surveying everything, and repairing it. */
export const SWEEP_GOALS = {
  survey: { figure: 'survey_ms', unit: 'ms', goal: 5000, better: 'less' },
  surveyRatio: {
    figure: 'survey_ratio',
    unit: 'of what the servers alone take, in ms',
    goal: 3,
    better: 'less',
  },
  surveyCpu: { figure: 'survey_cpu_us', unit: 'µs of `work` a subject', goal: 170, better: 'less' },
  memory: { figure: 'memory_mib', unit: 'MiB', goal: 400, better: 'less' },
  growth: {
    figure: 'growth_ratio',
    unit: "of a subject's ms in the smaller realm",
    goal: 1.2,
    better: 'less',
  },
  repairs: { figure: 'repairs_per_second', unit: 'drifts/s', goal: 100, better: 'more' },
  explain: { figure: 'explain_p50_ms', unit: 'ms', goal: 200, better: 'less' },
  rest: {
    figure: 'workers_rest_cpu_percent',
    unit: '% of a core, with PostgreSQL',
    goal: 3,
    better: 'less',
  },
  idle: {
    figure: 'idle_p50_ratio_during_sweep',
    unit: 'of the p50 without a sweep, in ms',
    goal: 2,
    better: 'less',
  },
  historyStatus: { figure: 'history_status_ms', unit: 'ms', goal: 500, better: 'less' },
  historyAudit: { figure: 'history_audit_ms', unit: 'ms', goal: 500, better: 'less' },
} as const satisfies Record<string, Goal>;

/** The goals of a recovery. */
export const RECOVER_GOALS = {
  list: { figure: 'recover_seconds', unit: 's', goal: 60, better: 'less' },
  overGranted: { figure: 'over_granted', unit: 'subjects', goal: 0, better: 'less' },
  notice: { figure: 'marker_notice_ms', unit: 'ms', goal: 60_000, better: 'less' },
} as const satisfies Record<string, Goal>;

/** The sizes of the recovery benchmark. */
export interface RecoverSize {
  among: { tools: number; people: number };
  /** decisions since the backup */
  changes: number;
  /** of each server, and of an area of homes, to an older state */
  restores: number;
}

export const RECOVER_FULL: RecoverSize = {
  among: { tools: 10_000, people: 30_000 },
  changes: 1000,
  restores: 5,
};
/** For trying the benchmark itself: its figures mean nothing. */
export const RECOVER_QUICK: RecoverSize = {
  among: { tools: 200, people: 600 },
  changes: 80,
  restores: 1,
};

/** The sizes of the survey benchmark. */
export interface SweepSize {
  among: { tools: number; people: number };
  grown: { tools: number; people: number };
  /** surveys of everything, each next to its floor */
  turns: number;
  /** surveys alternating between both realms */
  grownTurns: number;
  /** while there are no requests */
  restMs: number;
  drifts: number;
  explains: number;
  idleTools: number;
  /** requests that were done long ago */
  history: number;
  /** commands among them, of each kind */
  looks: number;
}

export const SWEEP_FULL: SweepSize = {
  among: { tools: 10_000, people: 30_000 },
  grown: { tools: 50_000, people: 150_000 },
  turns: 5,
  grownTurns: 3,
  restMs: 120_000,
  drifts: 1000,
  explains: 100,
  idleTools: 200,
  history: 10_000_000,
  looks: 20,
};
/** For trying the benchmark itself: its figures mean nothing. */
export const SWEEP_QUICK: SweepSize = {
  among: { tools: 200, people: 600 },
  grown: { tools: 1000, people: 3000 },
  turns: 2,
  grownTurns: 2,
  restMs: 5000,
  drifts: 80,
  explains: 8,
  idleTools: 20,
  history: 20_000,
  looks: 3,
};

/** The goals of the ends of accounts. */
export const LIFECYCLE_GOALS = {
  suspendP50: { figure: 'suspend_p50_ms', unit: 'ms', goal: 500, better: 'less' },
  suspendP95: { figure: 'suspend_p95_ms', unit: 'ms', goal: 2000, better: 'less' },
  archive: {
    figure: 'archive_ratio',
    unit: "of plain tar | zstd's bytes/s",
    goal: 0.5,
    better: 'more',
  },
  memory: { figure: 'archive_memory_mib', unit: 'MiB', goal: 200, better: 'less' },
  rotations: { figure: 'rotations_per_second', unit: 'accounts/s', goal: 200, better: 'more' },
} as const satisfies Record<string, Goal>;

/** The sizes of the lifecycle benchmark. */
export interface LifecycleSize {
  tools: number;
  people: number;
  suspensions: number;
  /** accounts for which the floor of a rotation is measured */
  floorRotations: number;
  /** in the home that is archived */
  files: number;
  /** each next to a plain `tar | zstd` */
  archiveTurns: number;
}

export const LIFECYCLE_FULL: LifecycleSize = {
  tools: 10_000,
  people: 5000,
  suspensions: 60,
  floorRotations: 2000,
  files: 200_000,
  archiveTurns: 3,
};
/** For trying the benchmark itself: its figures mean nothing. */
export const LIFECYCLE_QUICK: LifecycleSize = {
  tools: 300,
  people: 200,
  suspensions: 4,
  floorRotations: 100,
  files: 2000,
  archiveTurns: 1,
};

/** The goals of a failover. */
export const FAILOVER_GOALS = {
  killed: { figure: 'killed_takeover_ms', unit: 'ms', goal: 2000, better: 'less' },
  hung: { figure: 'hung_takeover_ms', unit: 'ms', goal: 15_000, better: 'less' },
  vanished: { figure: 'vanished_takeover_ms', unit: 'ms', goal: 30_000, better: 'less' },
} as const satisfies Record<string, Goal>;

/** How often a leader fails, by how. */
export interface FailoverSize {
  killed: number;
  hung: number;
  vanished: number;
}

export const FAILOVER_FULL: FailoverSize = { killed: 20, hung: 20, vanished: 3 };
/** For trying the benchmark itself: its figures mean nothing. */
export const FAILOVER_QUICK: FailoverSize = { killed: 2, hung: 1, vanished: 1 };

/** The goals of an installation. */
export const INSTALL_GOALS = {
  setup: { figure: 'setup_seconds', unit: 's', goal: 90, better: 'less' },
  login: { figure: 'first_login_seconds', unit: 's', goal: 60, better: 'less' },
  start: {
    figure: 'command_start_ratio',
    unit: "of the p50 of Node's own start, in ms",
    goal: 2,
    better: 'less',
  },
  package: { figure: 'package_mib', unit: 'MiB', goal: 60, better: 'less' },
  idle: { figure: 'idle_pss_mib', unit: 'MiB', goal: 350, better: 'less' },
  compose: { figure: 'compose_up_seconds', unit: 's', goal: 45, better: 'less' },
} as const satisfies Record<string, Goal>;

export interface InstallSize {
  /** whether the packages are compressed, as they are for people: that takes minutes */
  isCompressed: boolean;
  starts: number;
  /** after the setup, until memory is looked at */
  restMs: number;
}

/** Node gives back what only the start of a worker needed about 110 s after it. */
export const INSTALL_FULL: InstallSize = { isCompressed: true, starts: 30, restMs: 180_000 };
/** For trying the benchmark itself: its figures mean nothing. */
export const INSTALL_QUICK: InstallSize = { isCompressed: false, starts: 3, restMs: 2000 };

/** The goals of the HTTP API. */
export const API_GOALS = {
  read: { figure: 'read_p50_ms', unit: 'ms, at 200 reads/s', goal: 3, better: 'less' },
  readP99: {
    figure: 'read_p99_ratio',
    unit: "of the bare route's p99 in ms",
    goal: 3,
    better: 'less',
  },
  readRatio: {
    figure: 'read_ratio',
    unit: "of the bare route's reads/s",
    goal: 0.5,
    better: 'more',
  },
  signed: { figure: 'signed_read_p50_ms', unit: 'ms, at 200 reads/s', goal: 3, better: 'less' },
  signedP99: {
    figure: 'signed_read_p99_ratio',
    unit: "of the bare route's p99 in ms",
    goal: 3,
    better: 'less',
  },
  signedRatio: {
    figure: 'signed_read_ratio',
    unit: "of the bare route's reads/s",
    goal: 0.5,
    better: 'more',
  },
  verdict: { figure: 'post_verdict_p50_ms', unit: 'ms', goal: 30, better: 'less' },
  done: {
    figure: 'post_done_overhead_ms',
    unit: 'ms more than through the queue, by its p50 in ms',
    goal: 10,
    better: 'less',
  },
  check: { figure: 'check_p50_ms', unit: 'ms', goal: 25, better: 'less' },
  sseDelay: { figure: 'sse_delay_p99_ms', unit: 'ms', goal: 50, better: 'less' },
  sseMemory: { figure: 'sse_1000_mib', unit: 'MiB', goal: 150, better: 'less' },
  page: { figure: 'list_page_p50_ms', unit: 'ms', goal: 10, better: 'less' },
} as const satisfies Record<string, Goal>;

/** The sizes of the benchmark of the API. */
export interface ApiSize {
  tools: number;
  people: number;
  /** reads before anything is measured, and as many bare ones */
  warm: number;
  /** each with steady reads and as many as possible, by the API and by the bare route */
  turns: number;
  turnMs: number;
  perSecond: number;
  /** calls that are prepared for a turn of as many as possible */
  atOnce: number;
  pages: number;
  posts: number;
  warmPosts: number;
  listeners: number;
  /** how long they listen before the first event */
  listenMs: number;
  events: number;
  /** between two events */
  pauseMs: number;
}

export const API_FULL: ApiSize = {
  tools: 30_000,
  people: 30_000,
  warm: 2000,
  turns: 5,
  turnMs: 5000,
  perSecond: 200,
  atOnce: 10_000,
  pages: 500,
  posts: 200,
  warmPosts: 20,
  listeners: 1000,
  listenMs: 20_000,
  events: 630,
  pauseMs: 20,
};
/** For trying the benchmark itself: its figures mean nothing. */
export const API_QUICK: ApiSize = {
  tools: 1000,
  people: 600,
  warm: 100,
  turns: 2,
  turnMs: 1000,
  perSecond: 200,
  atOnce: 1000,
  pages: 50,
  posts: 20,
  warmPosts: 5,
  listeners: 40,
  listenMs: 3000,
  events: 60,
  pauseMs: 20,
};

export interface BenchOptions<S> {
  size: S;
  /** where the servers' folders are created */
  parent: string;
  /** where the CPU profile of the measured program goes; undefined: no profile */
  profileDir: string | undefined;
  /** rejects when the run must end early */
  interrupted: Promise<never>;
  /** why the figures mean nothing, if they do not */
  void: string | undefined;
  /** progress */
  say: (line: string) => void;
  /** shows what belongs to a figure, for people */
  show: (text: string) => void;
}
export type ChainOptions = BenchOptions<Size>;
export type LoginOptions = BenchOptions<LoginSize>;
export type SweepOptions = BenchOptions<SweepSize>;
export type RecoverOptions = BenchOptions<RecoverSize>;
export type LifecycleOptions = BenchOptions<LifecycleSize>;
export type FailoverOptions = BenchOptions<FailoverSize>;
export type InstallOptions = BenchOptions<InstallSize>;
export type ApiOptions = BenchOptions<ApiSize>;

/** The goals of changes without a restart. */
export const LIVE_GOALS = {
  reload: { figure: 'reload_ms', unit: 'ms, p95', goal: 500, better: 'less' },
  lost: { figure: 'reload_lost', unit: 'requests', goal: 0, better: 'less' },
  dead: { figure: 'admin_key_dead_ms', unit: 'ms, p99', goal: 200, better: 'less' },
  lines: { figure: 'portal_lines', unit: 'lines', goal: 50, better: 'less' },
} as const satisfies Record<string, Goal>;

export interface LiveSize {
  reloads: number;
  /** keys that are revoked, one after another */
  revocations: number;
}

export const LIVE_FULL: LiveSize = { reloads: 40, revocations: 100 };
export const LIVE_QUICK: LiveSize = { reloads: 5, revocations: 5 };
