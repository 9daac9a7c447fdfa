"""What the JSON Schemas in schemas/meta say of definitions.

    schema_verdicts.py SCHEMA FILE...

Prints a line for each file: its name, a tab, and nothing or the place and text of a fault. A file
that is no JSON is a fault. Patterns are those of ECMA 262, where $ is only the end of a text.
"""
import json
import re
import sys

import jsonschema


def pattern(validator, regex, instance, schema):
    if validator.is_type(instance, "string") and not re.search(re.sub(r"\$$", r"\\Z", regex), instance):
        yield jsonschema.ValidationError("%r does not match %r" % (instance, regex))


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = json.load(file)
    base = jsonschema.Draft202012Validator
    base.check_schema(schema)
    validator = jsonschema.validators.extend(base, {"pattern": pattern})(schema)
    for name in sys.argv[2:]:
        fault = ""
        try:
            with open(name, encoding="utf-8") as file:
                error = next(validator.iter_errors(json.load(file)), None)
            if error is not None:
                place = ".".join(str(part) for part in error.absolute_path)
                fault = "%s: %s" % (place, error.message[:200])
        except ValueError as error:
            fault = str(error)
        print("%s\t%s" % (name, fault.replace("\n", " ")))


main()
