#!/usr/bin/python3
"""The rules of the house, checked: who may include whom, sizes, headers that compile alone, what the documents promise.

Exceptions to the sizes stand in tests/tidy/ratchet.txt, and may only shrink.
"""

import ast
import glob
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.chdir(ROOT)
ROOMS = ["common", "store", "authd", "dnsd", "smtpd", "imapd", "pop3d", "traced", "admin"]
MAY_INCLUDE = {room: {room, "common", "store"} for room in ROOMS}
MAY_INCLUDE["common"] = {"common"}
MAY_INCLUDE["store"] = {"store", "common"}
MAY_INCLUDE["dnsd"] = {"dnsd", "common"}
MAY_INCLUDE["traced"] = {"traced", "common"}
# Of store/, the others see only the client side.
STORE_CLIENT_SIDE = {"store/store.h", "store/entry.h", "store/uidset.h", "store/record.h", "store/mailbox_list.h", "store/retained.h",
                     "store/client.h", "store/view.h", "store/quota.h"}
# What stands below the store's index, its own part of the house, is shared with those who keep databases and files of their own.
STORE_GROUND = {"store/env.h", "store/file.h", "store/object.h"}
# The command works on an account's directory itself when nobody else does.
STORE_TOOLS = {"store/account.h", "store/check.h", "store/dump.h", "store/file.h", "store/image.h", "store/index.h", "store/load.h", "store/object.h",
               "store/rebuild.h", "store/salvage.h"}
STORE_GROUND_USERS = ("smtpd/account_rate_file", "smtpd/queue_", "smtpd/sts_cache", "authd/directory")
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 1200
HEADER_LINES_MAX = 250
LINE_COLUMNS_MAX = 140

failures = []
passed = 0


def check(ok, text):
    global passed
    if ok:
        passed += 1
    else:
        failures.append(text)


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def sources(*suffixes):
    return [p for room in ROOMS for s in suffixes for p in sorted(glob.glob(room + "/**/*" + s, recursive=True))]


def ratchet():
    allowed = {}
    path = "tests/tidy/ratchet.txt"
    if os.path.exists(path):
        for line in read(path).splitlines():
            if line.strip() and not line.startswith("#"):
                what, lines = line.rsplit(None, 1)
                allowed[what] = int(lines)
    return allowed


def functions(text):
    """(name, first line, number of lines) of each function: return type, then name at column 0, then { alone at column 0."""
    lines = text.split("\n")
    name, start = None, 0
    for i, line in enumerate(lines):
        m = re.match(r"^([a-z_][A-Za-z0-9_]*)\(", line)
        if m:
            name, start = m.group(1), i
        if line == "{" and name:
            opened = i
        if line == "}" and name:
            yield name, start + 1, i - opened + 1
            name = None


def check_sizes():
    allowed = ratchet()
    used = set()

    def size_ok(key, lines, most):
        if lines <= most:
            return True
        used.add(key)
        return lines <= allowed.get(key, 0)

    for path in sources(".c", ".h"):
        text = read(path)
        lines = text.count("\n")
        most = HEADER_LINES_MAX if path.endswith(".h") else FILE_LINES_MAX
        check(size_ok(path, lines, most), "%s: %d lines, at most %d" % (path, lines, most))
        for number, line in enumerate(text.split("\n"), 1):
            if len(line.expandtabs(8)) > LINE_COLUMNS_MAX:
                failures.append("%s:%d: %d columns, at most %d" % (path, number, len(line.expandtabs(8)), LINE_COLUMNS_MAX))
        if path.endswith(".c"):
            for name, at, n in functions(text):
                check(size_ok("%s:%s" % (path, name), n, FUNCTION_LINES_MAX),
                      "%s:%d: %s has %d lines, at most %d" % (path, at, name, n, FUNCTION_LINES_MAX))
    for key in allowed:
        check(key in used, "tests/tidy/ratchet.txt: %s is within the limit now; remove the line" % key)


# Pure: the command judges again what was recorded, and key records as a receiver does.
JUDGING = {"smtpd/" + name for name in ("answers.h", "dkim_key.h", "dmarc.h", "policy.h", "spf.h", "verdict.h")}


def check_includes():
    for path in sources(".c", ".h"):
        room = path.split("/")[0]
        for number, line in enumerate(read(path).split("\n"), 1):
            m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not m:
                continue
            target = m.group(1)
            other = target.split("/")[0]
            if not os.path.exists(target):
                failures.append("%s:%d: no such file %s" % (path, number, target))
            elif target in JUDGING and room == "admin":
                check(True, "")
            elif other not in MAY_INCLUDE[room]:
                failures.append("%s:%d: %s may not include %s" % (path, number, room, target))
            elif target in STORE_GROUND and path.startswith(STORE_GROUND_USERS):
                check(True, "")
            elif target in STORE_TOOLS and room == "admin":
                check(True, "")
            elif other == "store" and room != "store" and target not in STORE_CLIENT_SIDE:
                failures.append("%s:%d: %s is not the store's client side" % (path, number, target))
            else:
                check(True, "")


def check_words():
    banned = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    for path in sources(".c", ".h", ".def") + ["Makefile", "tests/tests.mk"]:
        for number, line in enumerate(read(path).split("\n"), 1):
            check(not banned.search(line), "%s:%d: unfinished work: %s" % (path, number, line.strip()))
    for path in sources(".c"):
        text = read(path)
        check(not re.search(r"^#\s*if(n?def)?\b(?!.*(MAILSTEAD_INSTRUMENTED|__has_feature|MAILSTEAD_TEST))", text, re.M),
              path + ": conditional compilation in a .c file")


def check_headers_alone():
    def one(path):
        cmd = shlex.split(os.environ.get("CC", "gcc")) + ["-std=c17", "-D_GNU_SOURCE", "-I.", "-Wall", "-Wextra", "-Werror",
               "-fsyntax-only", "-include", path, "-x", "c", "/dev/null"]
        done = subprocess.run(cmd, capture_output=True, text=True)
        return path, done.returncode == 0, done.stderr

    with ThreadPoolExecutor(2) as pool:
        for path, ok, err in pool.map(one, sources(".h")):
            check(ok, "%s does not compile alone:\n%s" % (path, err[:800]))


def check_options_documented():
    names = re.findall(r'^OPT\((\w+), "([^"]+)"', read("common/options.def"), re.M)
    check(bool(names), "no options found")
    used = "\n".join(read(p) for p in sources(".c"))
    operations = read("docs/operations.md") if os.path.exists("docs/operations.md") else ""
    for symbol, name in names:
        check("OPT_" + symbol in used, "option %s is read nowhere" % name)
        check(name in operations, "option %s is not in docs/operations.md" % name)


def check_policy_documented():
    """docs/operations.md explains every row of the policy table."""
    operations = read("docs/operations.md")
    table = re.search(r"(?ms)^static const struct rule incoming\[\] = \{(.*?)^\};", read("smtpd/policy.c")).group(1)
    for rule in re.findall(r"\b[A-Z_]+\(\"([a-z-]+)\"", table):
        check("\n| `%s` |" % rule in operations, "the policy rule %s is not in docs/operations.md" % rule)


def check_messages_used():
    used = "\n".join(read(p) for p in sources(".c"))
    for path in glob.glob("common/msg/*.def"):
        for name in re.findall(r"^MSG\((\w+),", read(path), re.M):
            check(re.search(r"\b%s\b" % name, used) is not None, "message %s is sent nowhere" % name)
            # The command takes its answers one by one, without a dispatch.
            check(re.search(r"\.%s = |\bMSG_%s\b" % (name, name), used) is not None, "message %s has no handler" % name)


def check_flows():
    path = "docs/flows.md"
    if not os.path.exists(path):
        failures.append("docs/flows.md is missing")
        return
    hops = re.findall(r"`((?:%s)/[\w/]+\.c):(\w+)`" % "|".join(ROOMS), read(path))
    check(len(hops) > 20, "docs/flows.md names only %d hops" % len(hops))
    for source, function in hops:
        ok = os.path.exists(source) and re.search(r"^%s\(" % function, read(source), re.M)
        check(bool(ok), "docs/flows.md: %s has no function %s" % (source, function))


def check_conformance():
    path = "docs/conformance.md"
    if not os.path.exists(path):
        failures.append("docs/conformance.md is missing")
        return
    rows = [line for line in read(path).split("\n") if re.match(r"\| *(RFC|BCP|STD) ?\d+", line)]
    check(len(rows) > 20, "docs/conformance.md has only %d rows" % len(rows))
    for row in rows:
        cells = [c.strip() for c in row.strip("|").split("|")]
        tests = re.findall(r"`([^`]+)`", cells[-1])
        check(bool(tests), "docs/conformance.md: no test in: " + row)
        for name in tests:
            check(test_exists(name), "docs/conformance.md: no test %s" % name)


def test_exists(name):
    base, _, inside = name.partition(":")
    return os.path.exists(base) and (not inside or re.search(r"\b%s\b" % re.escape(inside), read(base)) is not None)


def check_python_names():
    """What is defined twice in one place is a test that nobody runs."""
    for path in sorted(glob.glob("tests/**/*.py", recursive=True)) + sorted(glob.glob("etc/**/*.py", recursive=True)):
        tree = ast.parse(read(path))
        for place in [tree] + [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]:
            seen = {}
            for n in place.body:
                if not isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                    continue
                # A property and its setter have one name.
                if any(isinstance(d, ast.Attribute) and d.attr in ("setter", "deleter") for d in n.decorator_list):
                    continue
                check(n.name not in seen, "%s:%d: %s is defined in line %d already" % (path, n.lineno, n.name, seen.get(n.name, 0)))
                seen[n.name] = n.lineno


def check_symbols():
    """Every public function is used outside the file that defines it (a main or a test counts)."""
    everything = {p: read(p) for p in sources(".c", ".h", ".def") + glob.glob("tests/**/*.c", recursive=True)}
    words = {p: set(re.findall(r"\w+", text)) for p, text in everything.items()}
    for path in sources(".h"):
        text = re.sub(r"/\*.*?\*/", "", read(path), flags=re.S)
        own = {path, path[:-2] + ".c"}
        for name in re.findall(r"^(?!typedef )[a-z][\w \*]*?[ \*]([a-z_][a-z0-9_]*)\([^;{]*\)[^;{]*;", text, re.M):
            if name.startswith("__"):
                continue
            used = any(name in words[p] for p in words if p not in own and p.endswith(".c"))
            check(used, "%s: %s() is used by nobody" % (path, name))


def main():
    for step in (check_includes, check_sizes, check_words, check_options_documented, check_policy_documented, check_messages_used, check_flows,
                 check_conformance, check_python_names, check_symbols, check_headers_alone):
        step()
    for text in failures[:200]:
        print("tidy: " + text)
    print("tidy: %d passed, %d failed" % (passed, len(failures)))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
