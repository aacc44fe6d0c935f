// client: a shopper as the shop's own page would be one. It measures and counts everything it is answered.
import http from 'k6/http';
import exec from 'k6/execution';
import { check, fail, sleep } from 'k6';
import { hmac } from 'k6/crypto';
import encoding from 'k6/encoding';
import { SharedArray } from 'k6/data';
import { base, patience, text } from './settings.js';
import { admitted, replayed, refused, ended, lost, unexpected, answerMs, confirmedMs, placeErrorMs } from './metrics.js';

// TOKENS: a file of "sluice loadtest targets --format k6". Without one, tokens are signed here with SLUICE_AUTH__SECRET.
const listed = new SharedArray('tokens', () => (text('TOKENS') ? open(text('TOKENS')).trim().split('\n') : []));

// Refusals are answers, not failures: what is unexpected is counted by this client.
http.setResponseCallback(http.expectedStatuses({ min: 200, max: 599 }));

// sign makes a JWT as "sluice token" does.
export function sign(claims) {
  if (!__ENV.SLUICE_AUTH__SECRET) fail('set SLUICE_AUTH__SECRET to auth.secret of the system under test, or TOKENS and SALE to a file of tokens and a sale');
  const part = (value) => encoding.b64encode(JSON.stringify(value), 'rawurl');
  const now = Math.floor(Date.now() / 1000);
  const issued = { iat: now, exp: now + 86400, iss: text('ISSUER') || undefined, aud: text('AUDIENCE') || undefined };
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ ...issued, ...claims })}`;
  return `${signed}.${hmac('sha256', __ENV.SLUICE_AUTH__SECRET, signed, 'base64rawurl')}`;
}

export class Shopper {
  // n is the shopper's number in this run; the same number is the same user.
  constructor({ sale, run }, n, kind = 'shopper') {
    this.sale = sale;
    if (listed.length > 0) {
      if (n >= listed.length) exec.test.abort(`TOKENS has ${listed.length} users, this scenario needs more: write a longer file`);
      ({ user: this.user, token: this.token } = JSON.parse(listed[n]));
    } else {
      this.user = `k6-${run}-${kind}-${n}`;
      this.token = sign({ sub: this.user });
    }
  }

  headers(more) {
    return { Authorization: `Bearer ${this.token}`, 'Content-Type': 'application/json', ...more };
  }

  // click is one order request, for http.batch; key is the Idempotency-Key.
  click(key) {
    const params = { headers: this.headers({ 'Idempotency-Key': `"${key}"` }), tags: { name: 'order' }, timeout: '30s' };
    return { method: 'POST', url: `${base}/v1/sales/${this.sale}/orders`, body: '{"quantity":1}', params };
  }

  // order clicks once and returns what the answer says. expected lists the refusals that are in order.
  order(key, expected = ['sold_out', 'queue_full']) {
    const { method, url, body, params } = this.click(key);
    return this.heard(http.request(method, url, body, params), expected);
  }

  // orders clicks with several keys at the same moment.
  orders(keys, expected) {
    return http.batch(keys.map((key) => this.click(key))).map((r) => this.heard(r, expected));
  }

  // heard counts an answer to a click and reads it: {admitted, replay, code, id, links, position, eta}.
  heard(r, expected) {
    if (r.status === 202) return this.queued(r);
    const said = json(r);
    const code = r.status === 0 ? 'no_answer' : said.code || 'broken_answer';
    answerMs.add(r.timings.duration, { outcome: 'refused', code });
    refused.add(1, { code });
    if (!expected.includes(code)) unexpected.add(1, { what: code });
    return { admitted: false, code, id: said.order_id };
  }

  queued(r) {
    const said = json(r);
    const replay = r.headers['Idempotency-Replayed'] === 'true';
    answerMs.add(r.timings.duration, { outcome: 'admitted' });
    (replay ? replayed : admitted).add(1);
    const whole = check(r, {
      'a 202 names the order, its place and its links': () => said.order_id && said.position >= 0 && said.eta_seconds >= 0 && said.links && said.links.self,
      'Location is the order': () => r.headers.Location === (said.links || {}).self,
    });
    if (!whole) unexpected.add(1, { what: 'broken_answer' });
    return { admitted: true, replay, id: said.order_id, links: said.links || {}, position: said.position, eta: said.eta_seconds, at: Date.now() - r.timings.duration };
  }

  // look asks once what became of an order, for up to wait seconds; null without an answer.
  look(order, wait = 0) {
    const r = http.get(`${base}${order.links.self}?wait=${wait}s`, { headers: this.headers(), tags: { name: 'look' }, timeout: `${wait + 15}s` });
    const said = json(r);
    if (r.status === 200) return said;
    const code = r.status === 0 ? 'no_answer' : said.code || 'broken_answer';
    if (code !== 'rate_limited') unexpected.add(1, { what: code });
    sleep(Number(r.headers['Retry-After'] || 1));
    return null;
  }

  // follow waits for the outcome and returns it; an order without one within PATIENCE is lost, and null.
  follow(order) {
    for (let left = patience; left > 0; left = patience - (Date.now() - order.at) / 1000) {
      const now = this.look(order, Math.max(1, Math.min(20, Math.floor(left))));
      if (now && now.status !== 'queued' && now.status !== 'processing') {
        this.outcome(order, now);
        return now;
      }
    }
    lost.add(1);
    return null;
  }

  outcome(order, now) {
    ended.add(1, { status: now.status });
    if (now.status !== 'confirmed') return;
    confirmedMs.add(Date.now() - order.at);
    const waited = Date.parse(now.confirmed_at) - Date.parse(now.admitted_at);
    placeErrorMs.add(Math.abs(order.eta * 1000 - waited));
  }

  // cancel gives the order's unit back.
  cancel(order) {
    const r = http.del(`${base}${order.links.self}`, null, { headers: this.headers(), tags: { name: 'cancel' } });
    return this.became(order, r, 'cancelled');
  }

  // pay calls back as the payment provider does (Standard Webhooks); PAYMENT_SECRET is payment.secret.
  pay(order, amount, currency) {
    const body = JSON.stringify({ payment_id: `pay-${order.id}`, amount_cents: amount, currency });
    const id = `msg-${order.id}`;
    const at = String(Math.floor(Date.now() / 1000));
    const secret = encoding.b64decode(text('PAYMENT_SECRET').replace(/^whsec_/, ''));
    const signature = `v1,${hmac('sha256', secret, `${id}.${at}.${body}`, 'base64')}`;
    const headers = { 'Content-Type': 'application/json', 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': signature };
    return this.became(order, http.post(`${base}${order.links.self}/payment`, body, { headers, tags: { name: 'pay' } }), 'paid');
  }

  became(order, r, status) {
    const said = json(r);
    const ok = r.status === 200 && said.status === status;
    if (ok && order.status !== status) ended.add(1, { status }); // a repeated callback is the same payment
    if (ok) order.status = status;
    else unexpected.add(1, { what: r.status === 0 ? 'no_answer' : said.code || 'wrong_status' });
    return ok;
  }
}

function json(r) {
  try {
    return r.json() || {};
  } catch (_) {
    return {}; // counted as a broken answer by whoever misses something in it
  }
}
