"""The JetStream API of the simulated server: the requests that the house makes, and the answers of nats-server.

Owns nothing: it reads and changes the streams of the server it is given.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from tests.simulation.jetstream_consumers import Consumer, full
from tests.simulation.jetstream_streams import Failure, Filter, Message, Stream

if TYPE_CHECKING:
    from tests.simulation.jetstream import SimServer

NO_STREAM = Failure(404, 10059, "stream not found")
NO_CONSUMER = Failure(404, 10014, "consumer not found")
NO_MESSAGE = Failure(404, 10037, "no message found")
BAD_REQUEST = Failure(400, 10003, "bad request")

Answer = dict[str, Any]


class Api:
    """Answers requests on `$JS.API.>`."""

    def __init__(self, server: SimServer) -> None:
        self._server = server
        self._calls: dict[str, Callable[[list[str], bytes], Answer]] = {
            "STREAM.INFO": self._stream_info,
            "STREAM.CREATE": self._stream_create,
            "STREAM.UPDATE": self._stream_update,
            "STREAM.DELETE": self._stream_delete,
            "STREAM.PURGE": self._stream_purge,
            "STREAM.MSG.GET": self._message_get,
            "STREAM.MSG.DELETE": self._message_delete,
            "CONSUMER.CREATE": self._consumer_create,
            "CONSUMER.INFO": self._consumer_info,
            "CONSUMER.DELETE": self._consumer_delete,
        }
        self._types = {
            "STREAM.MSG.GET": "stream_msg_get",
            "STREAM.MSG.DELETE": "stream_msg_delete",
        }

    def knows(self, subject: str) -> bool:
        """Return whether somebody answers there: pull requests and direct gets are answered by consumers and streams."""
        parts = subject.split(".")
        if parts[2:5] == ["CONSUMER", "MSG", "NEXT"]:
            stream = self._server.streams.get(parts[5]) if len(parts) == 7 else None
            return stream is not None and parts[6] in stream.consumers
        if parts[2:4] == ["DIRECT", "GET"]:
            stream = self._server.streams.get(parts[4]) if len(parts) > 4 else None
            return stream is not None and bool(stream.config["allow_direct"])
        return True

    def call(self, subject: str, reply: str, body: bytes) -> None:
        """Answer a request."""
        parts = subject.split(".")[2:]
        if parts[:3] == ["CONSUMER", "MSG", "NEXT"]:
            self._server.streams[parts[3]].consumers[parts[4]].pull(reply, body)
            return
        if parts[:2] == ["DIRECT", "GET"]:
            self._direct(parts[2], ".".join(parts[3:]), reply)
            return
        for length in (3, 2):
            name = ".".join(parts[:length])
            if name in self._calls:
                self._answer(name, self._calls[name], parts[length:], reply, body)
                return

    def _answer(self, name: str, call: Callable[[list[str], bytes], Answer], rest: list[str], reply: str, body: bytes) -> None:
        kind = "io.nats.jetstream.api.v1." + self._types.get(name, name.lower().replace(".", "_")) + "_response"
        try:
            answer = call(rest, body)
        except Failure as failure:
            answer = {"error": failure.body()}
        if reply:
            self._server.deliver(reply, reply, "", msgspec.json.encode({"type": kind, **answer}), None)

    def _stream(self, rest: list[str]) -> Stream:
        stream = self._server.streams.get(rest[0]) if rest else None
        if stream is None:
            raise NO_STREAM
        return stream

    # ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _info(self, stream: Stream) -> Answer:
        time_of = self._server.time_of
        state = {
            "messages": len(stream.messages),
            "bytes": stream.bytes,
            "first_seq": stream.first_seq,
            "first_ts": time_of(stream.first_ns) if stream.messages else "0001-01-01T00:00:00Z",
            "last_seq": stream.last_seq,
            "last_ts": time_of(stream.last_ns) if stream.last_ns else "0001-01-01T00:00:00Z",
            "num_subjects": len(stream.by_subject),
            "consumer_count": len(stream.consumers),
        }
        now = time_of(self._server.now_ns())
        return {"config": stream.config, "created": time_of(stream.created_ns), "state": state, "ts": now}

    def _stream_info(self, rest: list[str], body: bytes) -> Answer:
        return self._info(self._stream(rest))

    def _stream_create(self, rest: list[str], body: bytes) -> Answer:
        config = msgspec.json.decode(body)
        found = self._server.streams.get(config["name"])
        if found is not None:
            if any(found.config.get(key) != value for key, value in config.items()):
                raise Failure(400, 10058, "stream name already in use with a different configuration")
            return {**self._info(found), "did_create": False}
        subjects = Filter(config.get("subjects") or [config["name"]])
        if any(subjects.overlaps(stream.filter) for stream in self._server.streams.values()):
            raise Failure(400, 10065, "subjects overlap with an existing stream")
        return {**self._info(self._server.add_stream(config)), "did_create": True}

    def _stream_update(self, rest: list[str], body: bytes) -> Answer:
        stream, config = self._stream(rest), msgspec.json.decode(body)
        for key in ("storage", "retention"):
            if config.get(key, stream.config[key]) != stream.config[key]:
                raise Failure(500, 10052, f"stream configuration update can not change {'storage type' if key == 'storage' else 'retention policy'}")
        stream.reconfigure(config)
        self._server.subjects_changed()
        return self._info(stream)

    def _stream_delete(self, rest: list[str], body: bytes) -> Answer:
        self._server.delete_stream(self._stream(rest))
        return {"success": True}

    def _stream_purge(self, rest: list[str], body: bytes) -> Answer:
        stream = self._stream(rest)
        asked = msgspec.json.decode(body) if body else {}
        if stream.config["deny_purge"]:
            raise Failure(500, 10110, "stream purge not permitted")
        if asked.get("seq") and asked.get("keep"):
            raise BAD_REQUEST
        return {"success": True, "purged": stream.purge(asked.get("filter", ""), asked.get("seq", 0), asked.get("keep", 0))}

    # ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _message_get(self, rest: list[str], body: bytes) -> Answer:
        stream, asked = self._stream(rest), msgspec.json.decode(body) if body else {}
        last, subject, seq = asked.get("last_by_subj"), asked.get("next_by_subj"), asked.get("seq", 0)
        if (last and (subject or seq)) or not (last or subject or seq):
            raise BAD_REQUEST
        if last:
            found = stream.last(last)
        elif subject:
            found = stream.next(subject, seq)
        else:
            found = stream.messages.get(seq)
        if found is None:
            raise NO_MESSAGE
        return {"message": self._shown(found)}

    def _shown(self, message: Message) -> Answer:
        shown: Answer = {"subject": message.subject, "seq": message.seq}
        if message.headers:
            lines = "".join(f"{key}: {value}\r\n" for key, value in message.headers.items())
            shown["hdrs"] = base64.b64encode(f"NATS/1.0\r\n{lines}\r\n".encode()).decode()
        if message.data:
            shown["data"] = base64.b64encode(message.data).decode()
        return {**shown, "time": self._server.time_of(message.at_ns)}

    def _message_delete(self, rest: list[str], body: bytes) -> Answer:
        stream, asked = self._stream(rest), msgspec.json.decode(body)
        if stream.config["deny_delete"]:
            raise Failure(500, 10109, "message delete not permitted")
        if not stream.remove(asked["seq"]):
            raise Failure(400, 10057, f"sequence {asked['seq']} not found")
        return {"success": True}

    def _direct(self, name: str, subject: str, reply: str) -> None:
        found = self._server.streams[name].last(subject)
        if found is None:
            headers = {"Status": "404", "Description": "Message Not Found"}
            self._server.deliver(reply, reply, "", b"", headers)
            return
        headers = {
            **(found.headers or {}),
            "Nats-Stream": name,
            "Nats-Subject": found.subject,
            "Nats-Sequence": str(found.seq),
            "Nats-Time-Stamp": self._server.time_of(found.at_ns),
        }
        self._server.deliver(reply, reply, "", found.data, headers)

    # ── consumers ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _consumer(self, rest: list[str]) -> Consumer:
        consumer = self._stream(rest).consumers.get(rest[1])
        if consumer is None:
            raise NO_CONSUMER
        return consumer

    def _consumer_info(self, rest: list[str], body: bytes) -> Answer:
        return self._consumer(rest).info()

    def _consumer_delete(self, rest: list[str], body: bytes) -> Answer:
        self._consumer(rest).delete()
        return {"success": True}

    def _consumer_create(self, rest: list[str], body: bytes) -> Answer:
        stream, asked = self._stream(rest), msgspec.json.decode(body)
        config, action, name = asked["config"], asked.get("action", ""), rest[1]
        found = stream.consumers.get(name)
        if found is not None:
            if full(config, name) != found.config:
                if action == "create":
                    raise Failure(400, 10148, "consumer already exists")
                found.reconfigure(config)
                self._server.signal(found)
            return found.info()
        if action == "update":
            raise Failure(400, 10149, "consumer does not exist")
        if 0 < stream.config["max_consumers"] <= len(stream.consumers):
            raise Failure(400, 10026, "maximum consumers limit reached")
        self._check(stream, config)
        return self._server.add_consumer(stream, name, config).info()

    def _check(self, stream: Stream, config: Answer) -> None:
        patterns = config.get("filter_subjects") or ([config["filter_subject"]] if config.get("filter_subject") else [])
        wanted = Filter(list(patterns))
        if stream.config["retention"] == "workqueue":
            if config.get("ack_policy", "none") != "explicit":
                raise Failure(400, 10098, "workqueue stream requires explicit ack")
            if config.get("deliver_policy", "all") != "all":
                raise Failure(400, 10101, "consumer must be deliver all on workqueue stream")
            others = list(stream.consumers.values())
            if others and not patterns:
                raise Failure(400, 10099, "multiple non-filtered consumers not allowed on workqueue stream")
            if any(wanted.overlaps(consumer.filter) for consumer in others):
                raise Failure(400, 10100, "filtered consumer not unique on workqueue stream")
