/** All routes of the API, in the order in which the document shows them. */
import type { Route } from '../route.ts';
import { CHECK_ROUTES } from './checks.ts';
import { EVENT_ROUTES } from './events.ts';
import { EXPLAIN_ROUTES } from './explain.ts';
import { HEALTH_ROUTES } from './health.ts';
import { KEY_ROUTES } from './keys.ts';
import { KIND_ROUTES } from './kinds.ts';
import { NAME_ROUTES } from './names.ts';
import { PAGE_ROUTES } from './pages.ts';
import { PEOPLE_ROUTES } from './people.ts';
import { RECORD_ROUTES } from './records.ts';
import { REQUEST_ROUTES } from './requests.ts';
import { STATUS_ROUTES } from './status.ts';
import { SURVEY_ROUTES } from './surveys.ts';
import { TOOL_ROUTES } from './tools.ts';

export const ROUTES: readonly Route[] = [
  ...REQUEST_ROUTES,
  ...CHECK_ROUTES,
  ...EVENT_ROUTES,
  ...KIND_ROUTES,
  ...KEY_ROUTES,
  ...NAME_ROUTES,
  ...PEOPLE_ROUTES,
  ...TOOL_ROUTES,
  ...RECORD_ROUTES,
  ...STATUS_ROUTES,
  ...SURVEY_ROUTES,
  ...EXPLAIN_ROUTES,
  ...HEALTH_ROUTES,
  ...PAGE_ROUTES,
];
