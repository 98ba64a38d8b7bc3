/** The doors of a person, as whoever tries them finds them: when each is closed by a suspension. */
import { existsSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Attribute, Change, Client } from 'ldapts';
import { type Connection, createConnection } from 'mariadb';
import type pg from 'pg';
import { adminDn } from '../deploy/ldap/render.ts';
import { ensurePassword } from '../dev/servers/secret.ts';
import type { LoginHost } from '../dev/servers/login-host.ts';
import { readSecret } from '../src/config.ts';
import { verifierOf } from '../src/model/credentials.ts';
import { STEWARD } from './idle.ts';
import {
  maintainersOf,
  PASSWORD,
  PEOPLE_FIRST,
  personName,
  TOOLS_FIRST,
  toolName,
} from './population-names.ts';
import type { Portal } from './portal.ts';
import { type MeasuredRealm, FLOOR_IDS } from './realm.ts';
