"""Random values for the parameters that the description has, and for those that it tells of in
words: valid ones at the bounds and between them, and invalid ones."""

import json

# Windows that are multiples of an hour, as the views of the test have them.
GRANULARITIES = ["1h", "2h", "3h", "12h", "1d", "7d", "all"]
CALENDAR = ["1d", "1w", "1mo", "3mo", "1y"]
ZONES = ["UTC", "America/New_York", "Asia/Tokyo", "Europe/Berlin"]
TIMES = ["0001-01-01", "1969-12-31T23:59:59Z", "2026-01-01", "2026-01-04T23:00:00Z",
         "2026-01-05", "2026-01-05T10:00:00.5Z", "2026-01-06T00:00:00+02:00", "9999-12-31"]  # ascending
TEXTS = ["shop-1", "shop-2", "", " ", "%", "a,b", 'say "hi"', "'; DROP TABLE x --", "\u65e5\u672c",
         "\U0001f600", "x" * 200, "null", "\\", "+", "&=?#"]
NUMBERS = ["0", "-0", "1", "-1", "9223372036854775807", "-9223372036854775808"]
DECIMALS = NUMBERS + ["0.5", "-12.34", "1e3", "0.000000000000000001"]


class Request:
    """One request that is still being made. `broken` names what is wrong with it, if anything."""

    def __init__(self, path, method):
        self.path = path
        self.method = method
        self.segments = {}
        self.query = []
        self.headers = {}
        self.body = None
        self.expected = {200}
        self.broken = None
        self.fault = None  # the parameter that a refusal has to name; None: none

    def set(self, name, value):
        self.query = [(n, v) for n, v in self.query if n != name] + [(name, value)]

    def drop(self, *names):
        self.query = [(n, v) for n, v in self.query if n not in names]

    def get(self, name):
        return next((v for n, v in self.query if n == name), None)


def quoted(text):
    return '"%s"' % text.replace('"', '""') if set(text) & set(',"') or text == "" else text


def key_value(random, kind):
    if kind == "string":
        return random.choice(TEXTS)
    if kind == "boolean":
        return random.choice(["true", "false"])
    if kind == "timestamp":
        return random.choice(TIMES[1:-1])
    return random.choice(NUMBERS if kind == "integer" else DECIMALS)


def add_filter(random, request, key):
    """A restriction of one key, in one of the ways."""
    ways = ["", ".in", ".is"] + ([".prefix"] if key["type"] == "string" else [])
    way = random.choice(ways)
    if way == ".is":
        value = random.choice(["null", "not_null"])
    elif way == ".in":
        count = random.choice([1, 2, 5, 12])
        value = ",".join(quoted(key_value(random, key["type"])) for _ in range(count))
    else:
        value = key_value(random, key["type"])
    request.query.append((key["name"] + way, value))


def columns(request, view):
    """The names that an answer to the request would have."""
    keys = [key["name"] for key in view["keys"]]
    measures = [measure["name"] for measure in view["measures"]]
    if request.get("group_by") is not None:
        keys = [k for k in request.get("group_by").split(",") if k]
    if request.get("measures") is not None:
        measures = [m for m in request.get("measures").split(",") if m]
    return ["window_start"] + keys + measures


def subset(random, names, least):
    count = random.randint(least, len(names))
    return ",".join(random.sample(names, count))


# Each makes one parameter of a rows query; the value, or None where the view has no use for it.
# They are made in the order of `ORDER`, since some depend on others.

def make_from(random, request, view):
    return random.choice(TIMES)


def make_to(random, request, view):
    start = request.get("from")
    later = TIMES[TIMES.index(start):] if start else TIMES
    return random.choice(later)


def make_group_by(random, request, view):
    return subset(random, [key["name"] for key in view["keys"]], 0)


def make_granularity(random, request, view):
    if view["window"].get("type") != "tumbling":
        return None
    return random.choice(GRANULARITIES + ["1mo", "3mo", "1y"])


def make_timezone(random, request, view):
    granularity = request.get("granularity")
    if granularity is None or granularity == "all":
        return None
    request.set("granularity", random.choice(CALENDAR))
    return random.choice(ZONES)


def make_measures(random, request, view):
    if random.random() < 0.1:
        return ""
    return subset(random, [measure["name"] for measure in view["measures"]], 1)


def make_having(random, request, view):
    numbers = [m["name"] for m in view["measures"] if m["type"] in ("integer", "decimal")]
    parts = []
    for _ in range(random.choice([1, 1, 2, 4])):
        name = random.choice(numbers)
        parts.append(random.choice([
            "%s%s%s" % (name, random.choice(["=", "<>", "!=", "<", "<=", ">", ">="]),
                        random.choice(["0", "1", "2.5", "-7", "1000000000000000000"])),
            name + " is null", name + " is not null"]))
    return ",".join(parts)


def make_order(random, request, view):
    known = columns(request, view)
    names = random.sample(known, random.randint(0, min(2, len(known))))
    return ",".join(random.choice(["", "-"]) + name for name in names)


def make_limit(random, request, view):
    return random.choice(["1", "2", "7", "1000", "100000", "9223372036854775807"])


def make_at_least(random, request, view):
    return json.dumps({view["topic"]: random.choice([[], [0], [None], [0, 0], [0, None]])})


ROWS = {"from": make_from, "to": make_to, "group_by": make_group_by,
        "granularity": make_granularity, "timezone": make_timezone, "measures": make_measures,
        "having": make_having, "order": make_order, "limit": make_limit,
        "at_least": make_at_least}
ORDER = ["from", "to", "group_by", "granularity", "timezone", "measures", "having", "order",
         "limit", "explain", "layer", "at_least", "wait_ms"]

# Values that no view takes, and each of which alone makes a request bad.
BAD = {
    "from": ["yesterday", "", "2026-13-01", "2026-01-01T25:00:00Z", "1767571200", "10000-01-01"],
    "to": ["x", "", "2026-02-30", "2026-01-01 "],
    "group_by": ["nothing", "shop,,ok", "shop,shop", ","],
    "granularity": ["0h", "-1h", "90", "1x", "7m", "1h ", "999999999999999999999h", ""],
    "timezone": ["", "nowhere", "America", "Europe/", "../etc/passwd", "utc ", "UTC+1"],
    "measures": ["nothing", "n,,n", "n,n"],
    "having": ["", "n", "n>", "nothing>1", "n>x", ">1", "n=1,,n=2", "n is", "n>1 or n<2"],
    "order": ["nothing", "-", "n,,n", "--n"],
    "limit": ["0", "-1", "x", "1.5", "", "9223372036854775808", "1e3", " 1"],
    "cursor": ["x", "", "AAAA", "\u65e5\u672c", "=" * 100],
    "at_least": ["", "x", "[]", "1", "null", '{"nothing":[1]}', '{"TOPIC":1}', '{"TOPIC":[-1]}',
                 '{"TOPIC":[1.5]}', '{"TOPIC":["1"]}', '{"TOPIC":[0,0,0,0,0,0]}',
                 '{"TOPIC":[0],"x":[0]}', '{"TOPIC":[9223372036854775808]}'],
}
BAD_KEYS = {"integer": ["x", "", "1.5", "9223372036854775808"],
            "boolean": ["maybe", "", "TRUE?"],
            "decimal": ["x", "", "1.2.3", "NaN"],
            "timestamp": ["today", "", "2026-02-30"]}


def by_schema(random, schema):
    """A value of a parameter whose schema says everything: enums and whole numbers with bounds."""
    if "enum" in schema:
        return random.choice(schema["enum"])
    if schema.get("type") == "integer" and "minimum" in schema and "maximum" in schema:
        low, high = schema["minimum"], schema["maximum"]
        return str(random.choice([low, high, low + 1, high - 1, random.randint(low, high)]))
    return None


def bad_by_schema(random, schema):
    if "enum" in schema:
        return random.choice(["", "x", schema["enum"][0] + "x", schema["enum"][0].upper() + " "])
    if schema.get("type") == "integer":
        bad = ["x", "", "1.5", "-1", " 1", "99999999999999999999"]
        if "minimum" in schema:
            bad.append(str(schema["minimum"] - 1))
        if "maximum" in schema:
            bad.append(str(schema["maximum"] + 1))
        return random.choice(bad)
    return None
