//! What ASGI apps do with `receive` and `send` other than to await them, and what they do with asyncio at their import.

use std::fs;

use anyhow::ensure;
use tests::client::Protocol;
use tests::place::Place;
use tests::stack::{self, Stack};
use tests::vassal::Vassal;

/// Each path is a check, whose failure is a 500.
const APP: &str = r"
import asyncio
import inspect
import resource
import warnings
from collections.abc import Coroutine

import anyio
from asgiref.sync import async_to_sync

loop = asyncio.get_event_loop()
lock, queue, imported = asyncio.Lock(), asyncio.Queue(), loop.create_future()


async def resolve():
    await asyncio.sleep(0)
    imported.set_result('at the import')


at_import = loop.create_task(resolve())


async def app(scope, receive, send):
    if scope['type'] == 'lifespan':
        raise NotImplementedError
    name = scope['path'].strip('/').replace('-', '_')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        said = await CHECKS[name](receive, send)
    if said is not None:
        await send(start())
        await send({'type': 'http.response.body', 'body': str(said).encode()})


def start():
    return {'type': 'http.response.start', 'status': 200, 'headers': []}


def body(text, more=False):
    return {'type': 'http.response.body', 'body': text, 'more_body': more}


async def tasks(receive, send):
    loop = asyncio.get_running_loop()
    assert (await asyncio.create_task(receive()))['type'] == 'http.request'
    for wait in asyncio.create_task, asyncio.ensure_future, loop.create_task:
        waiting = wait(receive())
        await asyncio.sleep(0)
        waiting.cancel()
        assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)
    try:
        await asyncio.wait_for(receive(), 0.01)
    except asyncio.TimeoutError:
        pass
    await asyncio.gather(send(start()), asyncio.sleep(0))
    await asyncio.create_task(send(body(b'ok')))
    assert (await asyncio.wait_for(receive(), 30))['type'] == 'http.disconnect'


async def looks(receive, send):
    for function, arguments in (receive, ()), (send, (body(b''),)):
        name = function.__name__
        assert inspect.iscoroutinefunction(function), name
        assert asyncio.iscoroutinefunction(function), name
        assert list(inspect.signature(function).parameters) == (['message'] if arguments else [])
        coroutine = function(*arguments)
        assert asyncio.iscoroutine(coroutine) and inspect.iscoroutine(coroutine) and inspect.isawaitable(coroutine)
        assert isinstance(coroutine, Coroutine) and coroutine.__qualname__ == name
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED
        coroutine.close()
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    await receive()
    task = asyncio.create_task(receive())
    await asyncio.sleep(0)
    assert inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_SUSPENDED
    assert task.get_stack() and 'receive' in repr(task), repr(task)
    task.cancel()
    done = send(start())
    await done
    try:
        await done
    except RuntimeError as error:
        await send(body(str(error).encode()))


async def trio_like(receive, send):
    await receive()
    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    async with anyio.create_task_group() as group:
        group.start_soon(send, start())
    with anyio.move_on_after(0.01):
        await receive()
    async with anyio.create_task_group() as group:
        group.start_soon(send, body(b'anyio'))


async def threads(receive, send):
    await asyncio.to_thread(async_to_sync(send), start())
    waiting = asyncio.run_coroutine_threadsafe
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(lambda: waiting(send(body(b'from a thread')), loop).result())


async def never_awaited(receive, send):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        send({'type': 'http.response.start', 'status': 500, 'headers': []})
        for _ in range(10):
            send(body(b'x' * 1_000_000, True))
        await send(start())
    assert len(caught) == 11 and 'never awaited' in str(caught[0].message), caught
    await send(body(b'sent'))


async def many(receive, send):
    chunk = body(b'x' * 1_000_000, True)
    await send(start())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await asyncio.gather(*[asyncio.ensure_future(send(chunk)) for _ in range(100)])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 50_000, f'{grown} KiB'
    await send(body(b'.'))


async def at_import_loop(receive, send):
    async with lock:
        queue.put_nowait(1)
        await queue.get()
    assert loop is asyncio.get_running_loop(), loop
    await asyncio.wait_for(at_import, 30)
    return await asyncio.wait_for(imported, 30) + ' ' + type(loop).__module__


CHECKS = {check.__name__: check for check in (tasks, looks, trio_like, threads, never_awaited, many, at_import_loop)}
";

async fn site(keys: &[&str], test: impl AsyncFnOnce(&Stack) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("site.py"), APP)?;
    let vassal =
        Vassal::new("coroutines", folder.path(), "site.py:app").workers(1).python(&Place::of_tests()?.venv);
    let vassal = keys.iter().fold(vassal, |it, key| it.key(key));
    stack::with([vassal], async |stack| {
        stack.all_ready().await?;
        test(stack).await
    })
    .await
}

const LOOPS: [(&str, &str); 2] = [("loop = \"asyncio\"", "asyncio."), ("loop = \"uvloop\"", "uvloop")];

async fn says(stack: &Stack, path: &str, expected: &str) -> anyhow::Result<()> {
    for protocol in [Protocol::Plain, Protocol::Http2] {
        let answer = stack.client("coroutines", protocol)?.get(path).await?;
        let text = answer.text();
        ensure!(answer.status == 200 && text == expected, "{protocol} {path}: {} {text}", answer.status);
    }
    Ok(())
}

#[tokio::test]
async fn receive_and_send_can_be_used_like_coroutine_functions() -> anyhow::Result<()> {
    for (key, _) in LOOPS {
        site(&[key], async |stack| {
            says(stack, "/tasks", "ok").await?;
            says(stack, "/looks", "cannot reuse already awaited coroutine").await?;
            says(stack, "/trio-like", "anyio").await?;
            says(stack, "/threads", "from a thread").await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_send_that_is_not_awaited_sends_nothing_and_concurrent_ones_keep_their_order() -> anyhow::Result<()>
{
    site(&[LOOPS[0].0], async |stack| {
        says(stack, "/never-awaited", "sent").await?;
        says(stack, "/many", &format!("{}.", "x".repeat(100_000_000))).await
    })
    .await
}

#[tokio::test]
async fn a_loop_that_an_app_uses_at_its_import_is_the_one_that_runs() -> anyhow::Result<()> {
    for (key, module) in LOOPS.into_iter().chain([("interface = \"asgi\"", ""), ("", "")]) {
        let keys: &[&str] = if key.is_empty() { &[] } else { &[key] };
        site(keys, async |stack| {
            let text = stack
                .client("coroutines", Protocol::Plain)?
                .get("/at-import-loop")
                .await?
                .expect(200)?
                .text();
            ensure!(text.starts_with(&format!("at the import {module}")), "{key}: {text}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
