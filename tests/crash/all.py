"""All of the crash proof: power cuts of the queue and of the store, processes that are killed, mutants. Its last lines give the figures.

all.py COMMAND... with the commands separated by a "--" each; a command's figures are found in what it prints.
"""

import re
import subprocess
import sys

FIGURES = (
    (re.compile(r"^(\w+): (\d+) states explored"), "states"),
    (re.compile(r"^mutants: (\d+) caught of (\d+)"), "mutants"),
    (re.compile(r"^death: (\d+) rounds in "), "rounds"),
)


def commands(words):
    one = []
    for word in words + ["--"]:
        if word != "--":
            one.append(word)
        elif one:
            yield one
            one = []


def main():
    found = {"states": [], "mutants": [], "rounds": []}
    failed = []
    for command in commands(sys.argv[1:]):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as process:
            for line in process.stdout:
                print(line, end="", flush=True)
                for pattern, kind in FIGURES:
                    match = pattern.match(line)
                    if match:
                        found[kind].append(match.groups())
        if process.returncode != 0:
            failed.append(" ".join(command))
    states = ", ".join(f"{name} {number}" for name, number in found["states"])
    print(f"crash: {sum(int(number) for _, number in found['states'])} states explored ({states or 'none'})")
    print(f"crash: {sum(int(n) for n, in found['rounds'])} rounds killed")
    print(f"crash: {sum(int(c) for c, _ in found['mutants'])} mutants caught of {sum(int(n) for _, n in found['mutants'])}")
    if failed:
        print("crash: failed: " + ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
