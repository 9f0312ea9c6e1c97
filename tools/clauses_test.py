# SPDX-License-Identifier: Apache-2.0
"""tools/clauses.py finds what it is for: small trees are made and judged.

In:   tools/clauses.py as it stands, DSMIL_SOURCE_ROOT
Out:  unittest's report
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(os.environ.get("DSMIL_SOURCE_ROOT", pathlib.Path(__file__).resolve().parent.parent))
SPEC = "".join(f"**1.{n}** Rule {n}.\n\n" for n in range(1, 121))
CITE_ALL = "/* spec 1.1 to 1.118, 1.119 and 1.120 */\n"
AUDIT = "".join(f"**2.{n}** Rule {n}.\n\n" for n in range(1, 41))
CITE_AUDIT = "/* spec audit 2.1 to 2.40 */\n"


def judge(spec=SPEC, test=CITE_ALL, audit=AUDIT, audit_test=CITE_AUDIT, exempt=""):
    """(exit status, output) over a tree with a test of each specification."""
    with tempfile.TemporaryDirectory() as at:
        root = pathlib.Path(at)
        for path, text in {"docs/spec/dbe-v1.md": spec, "src/a_test.c": test, "docs/spec/audit-v1.md": audit,
                           "src/b_test.c": audit_test, "tools/clauses.exempt": exempt,
                           "src/a.c": "/* spec 1.120: code is no test */\n"}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        done = subprocess.run([sys.executable, "-B", str(ROOT / "tools/clauses.py")], capture_output=True, text=True,
                              env={**os.environ, "DSMIL_SOURCE_ROOT": at}, check=False)
        return done.returncode, done.stdout + done.stderr


class Clauses(unittest.TestCase):
    """One method a finding."""

    def finds(self, want, **tree):
        """The tree is refused, for this."""
        code, out = judge(**tree)
        self.assertEqual(code, 1, out)
        self.assertIn(want, out)

    def test_clean(self):
        self.assertEqual(judge()[0], 0, judge()[1])

    def test_every_way_to_cite(self):
        cites = "/* spec 1.1, 1.2 and 1.3 */ \"spec 1.4\" /* spec 1.5 to\n * 1.7 */ // spec 1.8 to 1.120\n"
        self.assertEqual(judge(test=cites)[0], 0, judge(test=cites)[1])

    def test_clause_without_a_test(self):
        self.finds("no test cites spec 1.120", test="/* spec 1.1 to 1.119 */\n")

    def test_note_needs_none(self):
        spec = SPEC.replace("**1.120** ", "**1.120** (Note: terms.) ")
        self.assertEqual(judge(spec=spec, test="/* spec 1.1 to 1.119 */\n")[0], 0)

    def test_exempt_only_shrinks(self):
        self.assertEqual(judge(test="/* spec 1.1 to 1.119 */\n", exempt="# why\n1.120 cannot be shown yet\n")[0], 0)
        self.finds("drop the row", exempt="1.120 it has a test now\n")
        self.finds("drop the row", exempt="1.121 it is gone\n")
        self.finds("drop the row", test="/* spec 1.1 to 1.119 */\n", exempt="1.120\n")

    def test_citation_of_nothing(self):
        self.finds("cites spec 1.121, which does not exist", test=CITE_ALL + "/* spec 1.121 */\n")

    def test_audit_log(self):
        self.finds("no test cites spec audit 2.40", audit_test="/* spec audit 2.1 to 2.39, spec 1.40 */\n")
        self.finds("cites spec audit 2.41, which does not exist", audit_test=CITE_AUDIT + "/* spec audit 2.41 */\n")
        self.finds("clause 2.41 follows 2.39", audit=AUDIT.replace("**2.40**", "**2.41**"))
        self.assertEqual(judge(audit_test="/* spec audit 2.1 to 2.39 */\n", exempt="audit 2.40 not yet\n")[0], 0)

    def test_gap_and_reference(self):
        self.finds("clause 1.121 follows 1.119", spec=SPEC.replace("**1.120**", "**1.121**"))
        self.finds("refers to clause 1.130", spec=SPEC + "As clause 1.130 says.\n")


if __name__ == "__main__":
    unittest.main()
