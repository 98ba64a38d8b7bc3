import { openRealm } from './realm.ts';
import { openPortal } from './portal.ts';
import { admitMaker, MAKER, toolRequest } from './idle.ts';
import { now } from './figure.ts';
import { Redis } from 'ioredis';
const realm = await openRealm('/tmp/h7-dev/t', []);
const work = await realm.startWork(); const portal = await openPortal(realm);
const c = await realm.connect(); const red = new Redis(realm.config.redis.url);
const notes:string[]=[]; const l=await realm.connect(); l.on('notification',m=>notes.push(`${now().toFixed(1)} ${m.payload}`)); await l.query('LISTEN chamberlain');
try {
 await admitMaker(portal);
 let stalls=0;
 for (let n=0;n<300&&stalls<4;n++){
  const s=await portal.sign(MAKER,toolRequest(`s-${n}`)); const r=portal.until(s.jti,'tool.ready'); const t0=now(); notes.length=0; await portal.send([s]);
  const first=await Promise.race([r,new Promise(res=>setTimeout(()=>res(undefined),1500))]);
  if(first===undefined){ stalls++;
   const {rows}=await c.query(`select c.*, clock_timestamp() now from convergence c where subject=(select subject from requests where jti=$1)`,[s.jti]);
   console.log('STALL at tool',n,'t0',t0); for(const x of rows) console.log(x.role,x.state,x.wanted,x.applied,'lease',x.leased_until&&new Date(x.leased_until).getTime()-10000-t0,'next',new Date(x.next_try_at).getTime()-t0, x.sentence);
   console.log('counts',await red.llen('bull:databases:wait'),await red.llen('bull:databases:active'));
   for(const q of ['homes','databases']) console.log(q,(await red.xrange(`bull:${q}:events`,Math.floor(t0),'+')).map(([id,f])=>`${(Number(id.split('-')[0])-t0).toFixed(0)}:${f[1]}#${f[3]}`).join(' '));
   console.log(notes.map(x=>{const [a,...b]=x.split(' ');return `${(Number(a)-t0).toFixed(1)}:${b.join('_')}`}).join(' '));
   const h=await r; console.log('ready after',h.heardAt-t0);
  }
 }
 console.log('stalls',stalls);
} finally { red.disconnect(); await c.end(); await l.end(); await portal.close(); await work.stop(); await realm.close(); }
