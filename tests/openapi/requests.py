"""Sends random requests, valid and invalid ones, to a server, and judges its replies by the
description that it serves itself (/openapi.json).

    requests.py --port N --seed S --count N --source FILE --events FILE [--plant NAME]

FILEs: the definition of a source that takes events, and events of it, one a line. Of every
operation and every parameter that is described some are sent; a parameter that this program has no
values for is a fault too, so that it grows with the description. A valid request has to succeed;
one that is made invalid in one place has to be refused with a problem document that names the
place; no reply may be undescribed, and none may take longer than TIMEOUT_S. --plant changes the
description, to show that a disagreement is found. Prints faults and exits with 3, or a summary.
"""

import argparse
import collections
import gzip
import http.client
import json
import random as random_module
import sys
import urllib.parse

import judge
import values

TIMEOUT_S = 20
FAULTS_MAX = 10
FOUND = 3  # other than what Python exits with where this program is at fault
PROBLEM = "application/problem+json"


class Tester:
    def __init__(self, arguments):
        self.port = arguments.port
        self.random = random_module.Random(arguments.seed)
        self.faults = []
        self.tried = collections.Counter()  # (path, parameter, valid?)
        self.seen = collections.Counter()  # (path, status)
        self.turns = collections.Counter()
        with open(arguments.source, encoding="utf-8") as file:
            self.source = json.load(file)
        with open(arguments.events, encoding="utf-8") as file:
            self.events = file.read().splitlines()
        self.document = json.loads(self.exchange("GET", "/openapi.json", {}, None)[2])
        plant(self.document, arguments.plant)
        listed = json.loads(self.exchange("GET", "/v1/views", {}, None)[2])
        self.views = [view for view in listed["views"] if view["readable"]]

    # --- one exchange ---

    def exchange(self, method, target, headers, body, until=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        connection.putrequest(method, target, skip_accept_encoding=True)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        if body is not None:
            try:
                connection.send(body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before it was read; the reply says why
        reply = connection.getresponse()
        if until is not None and reply.status == 200:
            content = b""
            while until not in content:
                content += reply.readline()
        else:
            content = reply.read()
        connection.close()
        if reply.getheader("Content-Encoding") == "gzip":
            content = gzip.decompress(content)
        return reply.status, reply, content

    def send(self, request):
        target = request.path
        for name, value in request.segments.items():
            target = target.replace("{%s}" % name, urllib.parse.quote(value, safe=""))
        if request.query:
            target += "?" + urllib.parse.urlencode(request.query)
        until = b"\n\n" if request.path.endswith("/live") else None
        shown = "%s %s %s%s" % (request.method, target[:600], request.headers,
                                "" if request.body is None else " %r" % request.body[:300])
        try:
            status, reply, body = self.exchange(request.method, target, request.headers,
                                                request.body, until)
        except (OSError, http.client.HTTPException) as error:
            self.fault(shown, "no reply: %r" % error)
            return None
        self.judge(request, shown, status, reply, body)
        return status, reply, body

    def fault(self, shown, text):
        self.faults.append("%s\n    %s" % (shown, text))

    def judge(self, request, shown, status, reply, body):
        media = (reply.getheader("Content-Type") or "").split(";")[0]
        self.seen[(request.path, status)] += 1
        if status not in request.expected:
            self.fault(shown, "status %d, expected %s%s: %s" % (
                status, sorted(request.expected),
                " for " + request.broken if request.broken else "", body[:300]))
            return
        if status == 405:
            self.judge_method(request, shown, reply, media)
            return
        method = "get" if request.method == "HEAD" else request.method.lower()
        try:
            wrong = judge.fault_of(self.document, request.path, method, status, media,
                                   None if request.method == "HEAD" else body, reply.headers)
        except (ValueError, UnicodeDecodeError) as error:
            wrong = "the body cannot be read: %s" % error
        if wrong is not None:
            self.fault(shown, "status %d: %s: %s" % (status, wrong, body[:300]))
        elif status >= 400 and request.method != "HEAD":
            problem = json.loads(body)
            named = problem.get("parameter")
            if problem["status"] != status or named != request.fault:
                self.fault(shown, "names %r, expected %r: %s" % (named, request.fault, body[:300]))

    def judge_method(self, request, shown, reply, media):
        allowed = set((reply.getheader("Allow") or "").split(", ")) - {"HEAD"}
        described = {m.upper() for m in self.document["paths"][request.path] if m != "parameters"}
        if allowed != described or media != PROBLEM:
            self.fault(shown, "405 allows %s, described are %s" % (allowed, described))

    # --- what is described ---

    def parameters(self, path, method):
        item = self.document["paths"][path]
        listed = item.get("parameters", []) + item[method].get("parameters", [])
        return [judge.resolve(self.document, parameter) for parameter in listed]

    def note(self, request, name, valid):
        self.tried[(request.path, name, valid)] += 1

    def rarest(self, what, choices):
        """One of those that were taken least often, so that everything has its turn soon."""
        least = min(self.turns[(what, choice)] for choice in choices)
        choice = self.random.choice([c for c in choices if self.turns[(what, c)] == least])
        self.turns[(what, choice)] += 1
        return choice

    # --- queries ---

    def rows_request(self, path):
        random = self.random
        request = values.Request(path, "GET" if random.random() < 0.9 or path.endswith("/live")
                                 else "HEAD")
        view = random.choice(self.views)
        request.segments["view"] = view["view"]
        self.note(request, "view", True)
        for key in view["keys"]:
            if random.random() < 0.2:
                values.add_filter(random, request, key)
        described = {p["name"]: p for p in self.parameters(path, "get") if p["in"] == "query"}
        chosen = {name for name in described if random.random() < 0.3}
        chosen.add(self.rarest(path + " good", sorted(described)))
        for name in sorted(chosen, key=lambda n: values.ORDER.index(n) if n in values.ORDER else 99):
            value = self.make(request, view, described[name])
            if value is not None:
                request.set(name, value)
                self.note(request, name, True)
        if path.endswith("/rows"):
            self.represent(request)
        elif random.random() < 0.3:
            request.headers["Last-Event-ID"] = random.choice(["x", "1-2-3", "9" * 200])
            self.note(request, "Last-Event-ID", True)
        return request, view, described

    def make(self, request, view, parameter):
        name = parameter["name"]
        if name == "cursor":
            return self.make_cursor(request)
        if name in values.ROWS:
            return values.ROWS[name](self.random, request, view)
        value = values.by_schema(self.random, parameter.get("schema", {}))
        if value is None:
            self.fault(name, "is described, and there are no values for it here")
        return value

    def make_cursor(self, request):
        """From the first page of the same question, if that has more than one."""
        first = values.Request(request.path, "GET")
        first.segments = request.segments
        first.query = [(n, v) for n, v in request.query if n != "limit"] + [("limit", "1")]
        answer = self.send(first)
        if answer is None or answer[0] != 200:
            return None
        return json.loads(answer[2])["page"]["next"]

    def represent(self, request):
        random = self.random
        accept = random.choice([None, "*/*", "application/json", "application/x-ndjson",
                                "text/csv", "text/*;q=0.5, application/json;q=0.1"])
        if request.get("explain") == "1" and "text" in (accept or ""):
            accept = None  # CSV has no place for it
        if accept is not None:
            request.headers["Accept"] = accept
        if random.random() < 0.5:
            request.headers["Accept-Encoding"] = "gzip"

    def good_rows(self, path):
        request, view, described = self.rows_request(path)
        if request.get("limit") is None:
            request.set("limit", "50")
        answer = self.send(request)
        if path.endswith("/rows") and answer and answer[0] == 200 and self.random.random() < 0.2:
            etag = answer[1].getheader("ETag")
            if etag is not None:
                request.headers["If-None-Match"] = etag
                request.expected = {200, 304}
                self.send(request)

    def late_rows(self, path):
        """What is not there yet: 504, and nothing else."""
        request, view, described = self.rows_request(path)
        if "at_least" not in described:
            return
        request.drop("cursor")
        request.set("at_least", json.dumps({view["topic"]: [10 ** 15]}))
        request.set("wait_ms", self.random.choice(["0", "20"]))
        request.expected = {504}
        self.send(request)

    def bad_rows(self, path):
        random = self.random
        request, view, described = self.rows_request(path)
        request.drop("cursor")
        request.expected = {400}
        request.method = "GET"
        if request.get("limit") is None:
            request.set("limit", "50")
        way = random.choice(["value", "value", "value"] + [self.rarest(path, [
            "key", "unknown", "twice", "view", "accept", "long", "escape"])])
        if way == "value":
            name = self.rarest(path + " bad", sorted(described))
            parameter = described[name]
            value = (random.choice(values.BAD[name]).replace("TOPIC", view["topic"])
                     if name in values.BAD
                     else values.bad_by_schema(random, parameter.get("schema", {})))
            if value is None:
                self.fault(name, "is described, and there are no bad values for it here")
                return
            request.query = [(n, v) for n, v in request.query if n in ("limit",) and n != name]
            request.set(name, value)
            if name == "timezone":
                request.segments["view"] = next(
                    v["view"] for v in self.views if v["window"].get("type") == "tumbling")
                request.set("granularity", "1d")
            request.fault = name
            self.note(request, name, False)
        elif way == "key":
            self.break_key(request, view)
        elif way == "unknown":
            name = random.choice(["nothing", "limi", "Limit", "shop.", "shop.like", "from "])
            request.set(name, "1")
            request.fault = name
        elif way == "twice":
            if not request.query:
                return
            name, value = random.choice(request.query)
            request.query.append((name, value))
            request.fault = name
        elif way == "view":
            request.segments["view"] = random.choice(["nothing", "x" * 100, "Sales", "a b", "'"])
            request.expected = {404}
            self.note(request, "view", False)
        elif way == "accept":
            request.headers["Accept"] = random.choice(["image/png", "text/html", "text/csv;q=0"])
            request.expected = {406}
        elif way == "long":
            request.query.append(("shop.in", "x" * 9000))
            request.expected = {414}
        else:
            request.path_suffix = None
            request.query = [("shop", "\0")]
            request.fault = "shop"
        request.broken = way
        self.send(request)

    def break_key(self, request, view):
        random = self.random
        key = random.choice(view["keys"])
        ways = [".is", ".in"]
        if key["type"] in values.BAD_KEYS:
            ways.append("")
        if key["type"] != "string":
            ways.append(".prefix")
        way = random.choice(ways)
        name = key["name"]
        request.query = [(n, v) for n, v in request.query if n.split(".")[0] != name]
        if way == ".is":
            value = random.choice(["", "NULL", "maybe"])
        elif way == ".in":
            value = random.choice(['"x', ",".join(["1"] * 1001)])
        elif way == ".prefix":
            value = "1"
        else:
            value = random.choice(values.BAD_KEYS[key["type"]])
        request.set(name + way, value)
        request.fault = name + way

    # --- events ---

    def events_request(self, path):
        random = self.random
        request = values.Request(path, "POST")
        request.segments["source"] = self.source["source"]
        self.note(request, "source", True)
        events = random.choices(self.events, k=random.choice([1, 1, 2, 5, 50]))
        form = random.choice(["lines", "array", "object"])
        request.headers["Content-Type"] = "application/json"
        if form == "object":
            text = events[0]
        elif form == "array":
            text = "[%s]" % random.choice([",", " ,\n"]).join(events)
        else:
            text = random.choice(["\n", "\r\n", "\n\n"]).join(events)
            request.headers["Content-Type"] = random.choice(
                ["application/x-ndjson", "application/x-ndjson; charset=utf-8"])
        for parameter in self.parameters(path, "post"):
            name = parameter["name"]
            if random.random() < 0.6 or parameter["in"] == "path":
                continue
            if name == "key":
                request.set(name, random.choice(list(self.source["fields"])))
            elif name == "Idempotency-Key":
                request.headers[name] = self.idempotency_key(random.choice([1, 20, 255]))
            elif name == "Content-Encoding":
                request.headers[name] = random.choice(parameter["schema"]["enum"])
            else:
                value = values.by_schema(random, parameter["schema"])
                if value is None:
                    self.fault(name, "is described, and there are no values for it here")
                    continue
                request.set(name, value)
            self.note(request, name, True)
        self.pack(request, text)
        return request, events

    def idempotency_key(self, length):
        return "".join(chr(self.random.randint(0x21, 0x7E)) for _ in range(length))

    @staticmethod
    def pack(request, text):
        data = text.encode("utf-8", "surrogateescape")
        request.body = gzip.compress(data) if request.headers.get(
            "Content-Encoding") == "gzip" else data

    def good_events(self, path):
        request, events = self.events_request(path)
        key = request.headers.get("Idempotency-Key")
        if key is not None and len(key) == 1:
            request.expected = {200, 422}  # there are not many of these, and some were used before
            request.fault = "Idempotency-Key"
        answer = self.send(request)
        if key is not None and answer and answer[0] == 200:
            again = self.send(request)
            if again and again[2] != answer[2]:
                self.fault("Idempotency-Key %s" % key, "another answer: %s" % again[2][:300])

    def mixed_events(self, path):
        """Good and bad lines: 207, or 422 where nothing may be written."""
        random = self.random
        request, events = self.events_request(path)
        request.headers["Content-Type"] = "application/x-ndjson"
        request.headers.pop("Idempotency-Key", None)
        bad = ["{}", "x", "[]", "1", '"', events[0][:-1], events[0] + "}"]
        lines = random.choices(events, k=3) + random.choices(bad, k=2)
        random.shuffle(lines)
        if random.random() < 0.2:
            lines = random.choices(bad, k=3)
        self.pack(request, "\n".join(lines))
        nothing = request.get("whole") == "1" or all(line in bad for line in lines)
        request.expected = {422} if nothing else {207}
        self.send(request)

    def bad_events(self, path):
        random = self.random
        request, events = self.events_request(path)
        way = self.rarest(path, ["type", "encoding", "body", "empty", "array", "whole", "key",
                                 "unknown", "twice", "source", "idempotency", "large", "many",
                                 "origin"])
        request.broken = way
        request.expected = {400}
        if way == "type":
            request.headers["Content-Type"] = random.choice(
                ["text/plain", "", "application/xml", "application/jsonp", "json"])
            request.expected = {415}
        elif way == "encoding":
            request.headers["Content-Encoding"] = random.choice(["br", "zstd", "gzip, gzip", "x"])
            request.expected = {415}
            self.note(request, "Content-Encoding", False)
        elif way == "body":
            request.headers["Content-Encoding"] = "gzip"
            request.body = random.choice([b"x", b"{}", gzip.compress(b"{}")[:-4]])
        elif way == "empty":
            self.pack(request, random.choice([" ", "\n\n"]))
        elif way == "array":
            request.headers["Content-Type"] = "application/json"
            self.pack(request, random.choice(["[", "[{}", "[{}]]", "[{}],", '["', "[]"]))
        elif way == "whole":
            request.set("whole", random.choice(["2", "", "true", "01"]))
            request.fault = "whole"
            self.note(request, "whole", False)
        elif way == "key":
            request.set("key", random.choice(["nothing", "", "AT", "detail"]))
            request.fault = "key"
            self.note(request, "key", False)
        elif way == "unknown":
            request.set("partition", "1")
            request.fault = "partition"
        elif way == "twice":
            request.query = [("whole", "0"), ("whole", "0")]
            request.fault = "whole"
        elif way == "source":
            request.segments["source"] = random.choice(["nothing", "x" * 100, "Orders", "'"])
            request.query = []
            request.expected = {404}
            self.note(request, "source", False)
        elif way == "idempotency":
            request.headers["Idempotency-Key"] = random.choice(
                ["", "two words", self.idempotency_key(256), "gr\xfc\xdf"])
            request.fault = "Idempotency-Key"
            self.note(request, "Idempotency-Key", False)
        elif way == "large":
            request.headers["Content-Type"] = "application/x-ndjson"
            self.pack(request, "{}" + " " * (2 << 20))
            request.expected = {413}
        elif way == "many":
            request.headers["Content-Type"] = "application/x-ndjson"
            self.pack(request, "{}\n" * 10001)
            request.expected = {413}
        else:
            request.headers["Origin"] = "https://example.org"
            request.expected = {403}
        self.send(request)

    # --- everything else ---

    def plain(self, path):
        random = self.random
        request = values.Request(path, random.choice(["GET", "GET", "HEAD"]))
        for parameter in self.parameters(path, "get"):
            if parameter["in"] != "path":
                self.fault(path, "has a parameter %s that is never sent" % parameter["name"])
            elif parameter["name"] == "view":
                request.segments["view"] = random.choice(self.views)["view"]
            elif parameter["name"] == "file" and "vendor" in path:
                request.segments["file"] = "LICENSE.uPlot"
            elif parameter["name"] == "file":
                request.segments["file"] = random.choice(["main.js", "format.js"])
            else:
                self.fault(path, "has a parameter %s without values" % parameter["name"])
            self.note(request, parameter["name"], True)
        way = self.rarest(path, ["good", "unknown", "missing"])
        refuses = "400" in self.document["paths"][path]["get"]["responses"]
        if way == "unknown":
            request.set("nothing", "1")
            request.expected = {400} if refuses else {200}
            request.fault = "nothing" if refuses else None
        elif way == "missing" and request.segments:
            request.segments = {name: "nothing" for name in request.segments}
            request.expected = {404}
            for name in request.segments:
                self.note(request, name, False)
        self.send(request)

    def other_method(self, path):
        described = {m.upper() for m in self.document["paths"][path]}
        methods = [m for m in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW")
                   if m not in described]
        request = values.Request(path, self.random.choice(methods))
        names = [p["name"] for p in self.document["paths"][path].get("parameters", [])
                 if "name" in p]
        names += [judge.resolve(self.document, p)["name"]
                  for p in self.document["paths"][path].get("parameters", []) if "$ref" in p]
        request.segments = {name: "x" for name in names}
        request.expected = {405}
        if request.method not in ("GET", "OPTIONS", "DELETE"):
            request.body = b"{}"
        self.send(request)

    # --- all of it ---

    def run(self, count):
        kinds = [(self.other_method, None)] * 3
        for path, item in self.document["paths"].items():
            if path.endswith("/rows") or path.endswith("/live"):
                weight = 16 if path.endswith("/rows") else 5
                kinds += [(self.good_rows, path)] * weight + [(self.bad_rows, path)] * weight
                kinds += [(self.late_rows, path)]
            elif "post" in item:
                kinds += [(self.good_events, path)] * 5 + [(self.bad_events, path)] * 6
                kinds += [(self.mixed_events, path)] * 2
            else:
                kinds += [(self.plain, path)]
        for _ in range(count):
            kind, path = self.random.choice(kinds)
            kind(path or self.rarest("method", sorted(self.document["paths"])))
            if len(self.faults) >= FAULTS_MAX:
                return
        self.check_coverage()

    def check_coverage(self):
        for path, item in self.document["paths"].items():
            for method in ("get", "post"):
                for parameter in self.parameters(path, method) if method in item else []:
                    name = parameter["name"]
                    ways = [True] if name == "Last-Event-ID" else [True, False]
                    for valid in ways:
                        if self.tried[(path, name, valid)] == 0:
                            self.fault("%s %s" % (path, name), "was never sent %s" % (
                                "validly" if valid else "invalidly"))


def plant(document, name):
    """Makes the description wrong in one place."""
    rows = document["paths"]["/v1/views/{view}/rows"]["get"]
    events = document["paths"]["/v1/sources/{source}/events"]["post"]
    parameters = document["components"]["parameters"]
    schemas = document["components"]["schemas"]
    if name == "status":
        del rows["responses"]["404"]
    elif name == "type":
        schemas["Receipt"]["properties"]["run"] = {"type": "string"}
    elif name == "required":
        schemas["Written"]["required"].append("nothing")
    elif name == "maximum":
        parameters["wait_ms"]["schema"]["maximum"] = 60000
    elif name == "enum":
        parameters["layer"]["schema"]["enum"].append("both")
    elif name == "parameter":
        events["parameters"].append({"name": "sort", "in": "query", "schema": {"enum": ["a", "b"]}})
    elif name == "media":
        content = rows["responses"]["200"]["content"]
        content["text/tsv"] = content.pop("text/csv")
    elif name == "method":
        document["paths"]["/v1/status"]["put"] = document["paths"]["/v1/status"]["get"]
    elif name is not None:
        sys.exit("there is no plant %s" % name)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--events", required=True)
    parser.add_argument("--plant")
    arguments = parser.parse_args()
    tester = Tester(arguments)
    tester.run(arguments.count)
    for fault in tester.faults:
        print(fault)
    by_status = collections.Counter()
    for (_, status), count in tester.seen.items():
        by_status[status] += count
    print("seed %d: %d requests: %s" % (arguments.seed, sum(by_status.values()), ", ".join(
        "%d x %d" % (count, status) for status, count in sorted(by_status.items()))))
    sys.exit(FOUND if tester.faults else 0)


if __name__ == "__main__":
    main()
