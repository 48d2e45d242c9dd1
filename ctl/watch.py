"""`zkv watch`: prints what happens to keys, or runs a command for each event; `-i` takes any number of watches.

In interactive mode three kinds of thread meet: one reads lines, one for each watch waits and prints, and the main one
does what the lines say. Whatever goes wrong in any of them ends the program, through the main one.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from queue import Queue
from typing import IO, TYPE_CHECKING

from zkv.ctl.command import Call, Command
from zkv.ctl.go_text import quote
from zkv.ctl.lasting import check_child, check_reader, met, start_child
from zkv.ctl.options import EXIT_CANCELED, EXIT_INVALID_INPUT, CommandError
from zkv.ctl.txn_text import split_words
from zkv.ctl.watch_text import EVENT_TYPE, KEY, WATCH_FLAGS, NotWatchable, from_environment, read_line, read_watch
from zkv.errors import ClientClosed, Compacted, PermissionDenied, ZkvError

if TYPE_CHECKING:
    from zkv.client.client import Client
    from zkv.client.ticket import Header
    from zkv.client.watch import Watch
    from zkv.client.watch_events import WatchEvent
    from zkv.ctl.watch_text import Wanted

IDLE_S = 1.0
"""When nothing happens: how often is looked whether somebody still reads."""
EMPTY_RANGE = "mvcc: watcher range is empty"
DENIED = f"rpc error: code = PermissionDenied desc = {PermissionDenied.text}"  # what etcd gives as the reason


class CommandFailed(Exception):
    """The command that was run for an event failed: it has been told why."""


class Screen:
    """Where several watches print, one response at a time."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._printer = call.printer("watch")
        self._lock = threading.Lock()

    def follow(self, watch: Watch, command: tuple[str, ...], member: Header) -> None:
        """Until the watch ends. Raises CommandFailed, BrokenPipeError, ClientClosed."""
        try:
            while True:
                response = watch.next(IDLE_S)
                if response is None:
                    check_reader(self._call.out)
                    continue
                with self._lock:
                    if response.progress:
                        self._printer.line(f"progress notify: {response.revision}")
                    self._printer.watch(response)
                    self._call.out.flush()
                for event in response.events:
                    self._run(command, event)
        except ClientClosed:
            raise
        except ZkvError as error:
            why = DENIED if isinstance(error, PermissionDenied) else str(error)
            self.canceled(why, member, error.compact_revision if isinstance(error, Compacted) else 0)

    def canceled(self, why: str, member: Header, compact_revision: int = 0) -> None:
        with self._lock:
            self._call.complain(f"watch was canceled ({why})")
            self._call.err.flush()
            self._printer.watch_canceled(member._replace(revision=0), compact_revision)
            self._call.out.flush()

    def _run(self, command: tuple[str, ...], event: WatchEvent) -> None:
        if not command:
            return
        told = {
            "ZKV_WATCH_REVISION": str(event.revision),
            EVENT_TYPE: quote(event.type.encode()),
            KEY: quote(event.key),
            "ZKV_WATCH_VALUE": quote(event.value),
        }
        try:
            child = start_child(command, {**self._call.environment, **told})
            child.wait()
            check_child(child)
        except CommandError as error:
            words = " ".join(quote(os.fsencode(word)) for word in command)
            self._call.complain(f"command [{words}] error ({error.text})")
            raise CommandFailed from None


def _begin(client: Client, wanted: Wanted) -> Watch:
    return client.watch(
        wanted.key,
        range_end=wanted.range_end,
        from_revision=wanted.revision,
        prev_kv=wanted.prev_kv,
        progress=wanted.progress,
    )


def _watch(call: Call) -> int:
    environment = from_environment(call.environment)
    screen = Screen(call)
    if call.values.is_on("interactive"):
        with met(call) as (client, member), suppress(CommandFailed):
            Conversation(call, screen, client, member).hold()
        return 1
    wanted = read_watch(call.values, call.arguments, environment)
    with met(call) as (client, member):
        if wanted.is_empty:
            screen.canceled(EMPTY_RANGE, member)
        else:
            try:
                with _begin(client, wanted) as watch:
                    screen.follow(watch, wanted.command, member)
            except CommandFailed:
                return 1
            except PermissionDenied:
                screen.canceled(DENIED, member)
    raise CommandError("watch is canceled by the server", EXIT_CANCELED)


class Conversation:
    """Interactive mode: `watch` begins one more, `progress` asks how far all are."""

    def __init__(self, call: Call, screen: Screen, client: Client, member: Header) -> None:
        self._call = call
        self._environment = from_environment(call.environment)
        self._screen = screen
        self._client = client
        self._member = member
        self._watches: dict[Watch, None] = {}
        self._heard: Queue[bytes | BaseException] = Queue(maxsize=1)

    def hold(self) -> None:
        """Until the input ends. Raises CommandError, CommandFailed, BrokenPipeError."""
        self._start(self._read, self._call.stdin)
        while True:
            heard = self._heard.get()
            if isinstance(heard, BaseException):
                raise heard
            self._do(heard.decode("utf-8", "surrogateescape").removesuffix("\n"))

    def _start(self, function: object, *arguments: object) -> None:
        threading.Thread(target=self._guarded, args=(function, *arguments), daemon=True).start()

    def _guarded(self, function: object, *arguments: object) -> None:
        try:
            function(*arguments)  # type: ignore[operator]
        except ClientClosed:
            pass  # the main thread is on its way out
        except BaseException as error:  # noqa: BLE001 (it is the main thread's to raise)
            self._heard.put(error)

    def _read(self, stdin: IO[bytes]) -> None:
        while line := stdin.readline():
            self._heard.put(line)
        raise CommandError("error reading watch request line: EOF", EXIT_INVALID_INPUT)

    def _do(self, line: str) -> None:
        try:
            words = split_words(line)
        except ValueError as error:
            raise CommandError(str(error), EXIT_INVALID_INPUT) from None
        match words:
            case []:
                self._complain(f"Invalid command: {line} (watch and progress supported)")
            case ["watch"] if not self._environment.key:
                self._complain(f"Invalid command {line} (command type or key is not provided)")
            case ["watch", *rest]:
                self._watch(line, rest)
            case ["progress", *_]:
                for watch in list(self._watches):
                    watch.request_progress()
            case _:
                self._complain(f"Invalid command {line} (only support watch)")

    def _watch(self, line: str, words: list[str]) -> None:
        try:
            wanted = read_line(words, self._environment)
        except NotWatchable as error:
            self._complain(f"Invalid command {line} ({error.text})")
            return
        if wanted.is_empty:
            self._screen.canceled(EMPTY_RANGE, self._member)
            return
        watch = _begin(self._client, wanted)
        self._watches[watch] = None
        self._start(self._follow, watch, wanted.command)

    def _follow(self, watch: Watch, command: tuple[str, ...]) -> None:
        try:
            self._screen.follow(watch, command, self._member)
        finally:
            self._watches.pop(watch, None)

    def _complain(self, text: str) -> None:
        self._call.complain(text)
        self._call.err.flush()


WATCH = Command(
    usage="[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
    summary="Watches events stream on keys or prefixes",
    description="""\
Prints each event: PUT, key and value, or DELETE and the key; with --prev-kv what was there before it.
It goes on where it was when members fail, and ends when told to, or when history it needs was compacted.

The key and range_end can also come from ZKV_WATCH_KEY and ZKV_WATCH_RANGE_END.

A command behind -- is run for each event, in order, one at a time, with these variables, quoted:
ZKV_WATCH_REVISION, ZKV_WATCH_EVENT_TYPE, ZKV_WATCH_KEY, ZKV_WATCH_VALUE. If it fails, the watch ends.

Interactive mode reads lines: watch [options] <key or prefix> [range_end] [-- command], any number of them,
and progress, which asks all watches how far they are.""",
    example="""\
zkv watch --prefix /config/
zkv watch /config/motd --rev 4 --prev-kv -w json
zkv watch /config/motd -- sh -c 'echo "now: $ZKV_WATCH_VALUE"'
echo 'watch /config/motd --rev 4' | zkv watch -i""",
    flags=WATCH_FLAGS,
    run=_watch,
)
