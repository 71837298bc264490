"""A small client of the v2 API, from the standard library: HTTP and JSON are all it takes."""

import argparse
import contextlib
import http.client
import json
import threading
import time
import urllib.parse


class RefusedError(Exception):
    """The member's answer is an error; ``code`` is etcd's number for it."""

    def __init__(self, answer):
        super().__init__(f"{answer['message']} ({answer.get('cause', '')})")
        self.code = answer["errorCode"]
        self.index = answer["index"]


NOT_FOUND, TEST_FAILED, EXISTS, HISTORY_GONE = 100, 101, 105, 401


class Etcd:
    """One member. Every call is one request; ``index`` is the store's index that its answer named."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.index = 0

    def get(self, key, **parameters):
        return self._ask("GET", key, parameters)

    def put(self, key, value=None, **parameters):
        return self._ask("PUT", key, parameters | ({} if value is None else {"value": value}))

    def post(self, key, value, **parameters):
        return self._ask("POST", key, parameters | {"value": value})

    def delete(self, key, **parameters):
        return self._ask("DELETE", key, parameters)

    def nodes(self, key):
        """What is in a directory, in order, and the index from which a watch sees every later change."""
        try:
            found = self.get(key, sorted="true", recursive="true")["node"].get("nodes", [])
            return found, self.index + 1
        except RefusedError as refused:
            if refused.code != NOT_FOUND:
                raise
            return [], refused.index + 1

    def watch(self, key, since):
        """All events of a key and below it from an index on. Raises RefusedError if they are gone."""
        while True:
            try:
                event = self._ask("GET", key, {"wait": "true", "recursive": "true", "waitIndex": since})
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                time.sleep(0.1)  # the member is away; the index says where to go on
                continue
            since = event["node"]["modifiedIndex"] + 1
            yield event

    def _ask(self, method, key, parameters):
        connection = http.client.HTTPConnection(self.endpoint)
        with contextlib.closing(connection):
            body, path = urllib.parse.urlencode(parameters), "/v2/keys" + urllib.parse.quote(key)
            if method in ("PUT", "POST"):
                headers = {"Content-Type": "application/x-www-form-urlencoded"}
                connection.request(method, path, body, headers)
            else:
                connection.request(method, f"{path}?{body}")
            response = connection.getresponse()
            index = response.headers["X-Etcd-Index"]
            answer = json.loads(response.read())
            if "errorCode" in answer:
                raise RefusedError(answer)
            self.index = int(index)
            return answer


class Heartbeat:
    """Keeps a key for as long as this process lives and reaches a member.

    ``lost`` is set as soon as the key may have expired: by our clock, which was read before the member's was.
    """

    def __init__(self, etcd, key, value, ttl):
        self.etcd, self.key, self.value, self.ttl = Etcd(etcd.endpoint), key, value, ttl
        self.lost = threading.Event()
        self._stop = threading.Event()
        self._good_until = time.monotonic() + ttl
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while not self._stop.wait(self.ttl / 4):
            now = time.monotonic()
            try:
                self.etcd.put(self.key, refresh="true", ttl=self.ttl, prevValue=self.value)
                self._good_until = now + self.ttl
            except RefusedError:
                self._good_until = now
            except OSError:
                pass
            if time.monotonic() >= self._good_until:
                self.lost.set()
                return

    def stop(self):
        self._stop.set()


def say(*words):
    print(*words, flush=True)


def run(description, roles):
    """Run the role that the command line names: ``<endpoint> <role> [argument...]``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("endpoint", help="host:port of a member")
    parser.add_argument("role", choices=roles)
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        roles[given.role](Etcd(given.endpoint), *given.arguments)
