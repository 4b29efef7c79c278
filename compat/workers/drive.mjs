// Delivers to the Workers in the given folders, in the real workerd, over HTTP.
import { createHash, createHmac } from 'node:crypto'
import { readFileSync, readdirSync } from 'node:fs'
import { Miniflare } from 'miniflare'

const [example, probe] = process.argv.slice(2)
const secrets = {
    QSTASH_CURRENT_SIGNING_KEY: 'sig_workers_current',
    QSTASH_NEXT_SIGNING_KEY: 'sig_workers_next',
}
const region = {
    QSTASH_REGION: 'US_EAST_1',
    EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY: 'sig_workers_eu_current',
    EU_CENTRAL_1_QSTASH_NEXT_SIGNING_KEY: 'sig_workers_eu_next',
}
const origin = 'https://qstash-worker.example.workers.dev'
const { QSTASH_CURRENT_SIGNING_KEY: current, QSTASH_NEXT_SIGNING_KEY: next } = secrets
const now = Math.floor(Date.now() / 1000)

// A token as QStash makes it; `change` are the claims that differ.
function sign(body, { key = current, path = '/webhook', ...change } = {}) {
    const claims = {
        aud: '',
        body: createHash('sha256').update(body).digest('base64url') + '=',
        exp: now + 300,
        iat: now,
        iss: 'Upstash',
        jti: 'jwt_3Xc8MLhvE1B2nNVGCpNrWo9yDJmQ',
        nbf: -62135596800,
        sub: origin + path,
        ...change,
    }
    const encode = value => Buffer.from(JSON.stringify(value)).toString('base64url')
    const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`
    return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`
}

// The module that wrangler would be given by worker-build, as short as it can be.
const shim = `
import wasm from './worker_bg.wasm'
import { fetch, initSync } from './worker.js'
initSync({ module: wasm })
export default { fetch: (request, env, context) => fetch(request, env, context) }
`
const start = (folder, bindings) => {
    const files = readdirSync(folder, { recursive: true })
    const modules = files.filter(name => /\.(js|wasm)$/.test(name)).map(path => ({
        type: path.endsWith('.wasm') ? 'CompiledWasm' : 'ESModule',
        path,
        contents: readFileSync(`${folder}/${path}`, path.endsWith('.wasm') ? undefined : 'utf8'),
    }))
    return new Miniflare({
        host: '127.0.0.1',
        port: 0,
        compatibilityDate: '2026-04-15',
        modules: [{ type: 'ESModule', path: 'index.mjs', contents: shim }, ...modules],
        bindings: { PUBLIC_URL: origin, ...bindings },
    })
}

let passed = 0
let failed = 0
async function expect(worker, name, { body = 'Hello', token, path = '/webhook' }, status, text) {
    let got
    try {
        const headers = token === undefined ? {} : { 'Upstash-Signature': token }
        const response = await fetch(new URL(path, await worker.ready), { method: 'POST', headers, body, duplex: 'half' })
        got = { status: response.status, text: await response.text() }
    } catch (error) {
        got = { status: 0, text: String(error.cause ?? error) }
    }
    const ok = got.status === status && got.text.includes(text)
    ok ? passed++ : failed++
    console.log(`${ok ? 'ok  ' : 'FAIL'} ${name}: ${got.status} ${JSON.stringify(got.text.slice(0, 160))}`)
    if (!ok) console.log(`     expected: ${status} ${JSON.stringify(text)}`)
}

const code = name => `"code":"${name}"`
const large = Buffer.alloc(100_000, 'QStash ')
const almostLarge = Buffer.concat([large.subarray(0, -1), Buffer.from('!')])
const tooLarge = Buffer.alloc(3 * 1024 * 1024 + 1, 'x')

async function deliveries(title, folder, hello, size) {
    const worker = start(folder, secrets)
    const check = (name, ...rest) => expect(worker, `${title}, ${name}`, ...rest)
    const genuine = name => check(name, { token: sign('Hello') }, 200, hello)
    await genuine('genuine')
    await check('genuine, signed with the next key', { token: sign('Hello', { key: next }) }, 200, hello)
    await check('genuine, no body', { body: '', token: sign('') }, 200, size(0))
    await check('genuine, 100 kB', { body: large, token: sign(large) }, 200, size(100_000))
    await check('genuine, another nbf', { token: sign('Hello', { nbf: now }) }, 200, hello)
    await check('forged', { token: sign('Hello', { key: 'sig_unknown' }) }, 400, code('signature_mismatch'))
    await check('tampered', { body: 'Hallo', token: sign('Hello') }, 400, code('body_mismatch'))
    await check('tampered, 100 kB', { body: almostLarge, token: sign(large) }, 400, code('body_mismatch'))
    await check('no header', {}, 400, code('missing_signature'))
    await check('a header of one character', { token: 'x' }, 400, code('not_three_segments'))
    await check('a header of one dot', { token: '.' }, 400, code('not_three_segments'))
    await check('expired', { token: sign('Hello', { exp: now - 1 }) }, 400, code('expired'))
    await check('not valid yet', { token: sign('Hello', { nbf: now + 3600 }) }, 400, code('not_yet_valid'))
    await check('published elsewhere', { token: sign('Hello', { path: '/other' }) }, 400, code('subject_mismatch'))
    // Without a declared length, or the rest of it would be lost with the connection.
    const stream = new Blob([tooLarge]).stream()
    await check('too large', { body: stream, token: sign(tooLarge) }, 413, code('body_too_large'))
    await genuine('genuine, after all of these')
    await worker.dispose()

    const moving = start(folder, region)
    const european = { key: region.EU_CENTRAL_1_QSTASH_NEXT_SIGNING_KEY }
    await expect(moving, `${title}, moving between regions, genuine`, { token: sign('Hello', european) }, 200, hello)
    await expect(moving, `${title}, moving between regions, forged`, { token: sign('Hello') }, 400, code('signature_mismatch'))
    await moving.dispose()
}

await deliveries('axum', example, `${origin}/webhook delivered 5 bytes`, bytes => ` delivered ${bytes} bytes`)
await deliveries('plain', probe, 'plain: 5 bytes', bytes => `plain: ${bytes} bytes`)

// One isolate, so one memory. Another token, even for the same message, is let through.
const guarded = start(probe, secrets)
const again = { path: '/guarded', token: sign('Hello', { path: '/guarded' }) }
const other = { path: '/guarded', token: sign('Hello', { path: '/guarded', jti: 'jwt_other' }) }
await expect(guarded, 'guarded, genuine', again, 200, 'plain: 5 bytes')
await expect(guarded, 'guarded, the same token again', again, 200, 'already processed')
await expect(guarded, 'guarded, another token', other, 200, 'plain: 5 bytes')
await guarded.dispose()

const bare = start(probe, {})
await expect(bare, 'no secrets', { token: sign('Hello') }, 500, 'returned no QSTASH_CURRENT_SIGNING_KEY')
await expect(bare, 'from_env', { path: '/from_env' }, 500, 'use SigningKeys::from_lookup')
await bare.dispose()

console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
