import { openRealm } from './realm.ts';
import { openPortal } from './portal.ts';
import { quantile } from './figure.ts';
import { openTrace } from './stages.ts';
import { admitMaker, latencies, makeTools } from './idle.ts';
const realm = await openRealm('/tmp');
const work = await realm.startWork();
const portal = await openPortal(realm);
try {
await admitMaker(portal);
const trace = await openTrace(realm);
const tools = await makeTools(portal, 'idle', 100);
const l = latencies(tools);
console.log(quantile(l,.5),quantile(l,.99));
console.log(await trace.explain(tools));
await trace.close();
} finally { await portal.close(); await work.stop(); await realm.close(); }
