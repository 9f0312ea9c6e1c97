#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Begin a device: a folder with its table, its decision as a pure function, and a test that can fail.

In:   NAME of lower-case letters, digits and '_'; ID of a row in schema/devices.def; --root of another checkout
Out:  devices/l<layer>_<name>/, which builds and passes; its line in devices/meson.build
Not:  it overwrites nothing, and gives no permission: who may send to the device is said in schema/emits.def.
"""
import argparse
import pathlib
import re
import sys

DECISION_H = '''/* SPDX-License-Identifier: Apache-2.0
 *
 * judge.h - device {id}, {title}: the decision, and nothing else. Pure: same input, same verdict.
 */
#ifndef DEVICES_{guard}_JUDGE_H
#define DEVICES_{guard}_JUDGE_H

#include <stdbool.h>

enum {name}_verdict {{ {upper}_NORMAL, {upper}_NOTABLE }};

/* Judge one score (0 to 1). A score that is not a number between 0 and 1 is not judged: false, `ret` untouched. */
bool {name}_judge(double score, double limit, enum {name}_verdict *ret);

#endif
'''

DECISION_C = '''/* SPDX-License-Identifier: Apache-2.0
 *
 * judge.c - see judge.h.
 */
#include "devices/{folder}/judge.h"

bool {name}_judge(double score, double limit, enum {name}_verdict *ret)
{{
    if (!(score >= 0 && score <= 1)) /* false for NaN as well */
        return false;
    *ret = score >= limit ? {upper}_NOTABLE : {upper}_NORMAL;
    return true;
}}
'''

TEST_C = '''/* SPDX-License-Identifier: Apache-2.0
 *
 * judge_test.c - the decision as a table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "devices/{folder}/judge.h"

static void test_judge(void **state)
{{
    static const struct {{
        double score, limit;
        bool judged;
        enum {name}_verdict verdict;
    }} rows[] = {{
        {{0.0, 0.9, true, {upper}_NORMAL}},    {{0.899, 0.9, true, {upper}_NORMAL}},
        {{0.9, 0.9, true, {upper}_NOTABLE}},   {{1.0, 0.9, true, {upper}_NOTABLE}},
        {{1.001, 0.9, false, {upper}_NORMAL}}, {{-0.001, 0.9, false, {upper}_NORMAL}},
        {{NAN, 0.9, false, {upper}_NORMAL}},   {{INFINITY, 0.9, false, {upper}_NORMAL}},
    }};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {{
        enum {name}_verdict verdict = {upper}_NORMAL;
        assert_int_equal({name}_judge(rows[i].score, rows[i].limit, &verdict), rows[i].judged);
        assert_int_equal(verdict, rows[i].verdict);
    }}
}}

int main(void)
{{
    const struct CMUnitTest tests[] = {{cmocka_unit_test(test_judge)}};
    return cmocka_run_group_tests(tests, NULL, NULL);
}}
'''

DEVICE_C = '''/* SPDX-License-Identifier: Apache-2.0
 *
 * {name}.c - device {id}, {title} (layer {layer}).
 *
 * In:   SOC_EVENT
 * Out:  counters; what is notable, in the log
 * Does: judges the score of each event (judge.c)
 * Not:  no network, no files, no threads, no clock; policy has decided before a handler runs
 *
 * Reading order: tables at the bottom, on_event, judge.c.   Tests: judge_test.c
 */
#include "devices/{folder}/judge.h"

#include <inttypes.h>
#include <stddef.h>

#include "dbe/payload.h"
#include "dsmil.pb-c.h"
#include "runtime/svc.h"

struct {name} {{
    double limit;              /* parameter */
    uint64_t events, notables; /* counters */
}};

static dbe_err on_event(struct svc *svc, void *state, struct svc_req *req, const struct dbe_msg *msg)
{{
    struct {name} *d = state;
    enum {name}_verdict verdict;
    Dsmil__SOCEvent *event;

    DBE_TRY(dbe_payload_check(msg->type, msg->payload, msg->payload_len, NULL));
    event = dsmil__socevent__unpack(NULL, msg->payload_len, msg->payload);
    if (event == NULL)
        return DBE_E_MALFORMED;
    const bool judged = {name}_judge(event->score, d->limit, &verdict);
    dsmil__socevent__free_unpacked(event, NULL);
    if (!judged)
        return DBE_E_RANGE;
    d->events++;
    if (verdict == {upper}_NOTABLE) {{
        d->notables++;
        svc_log(svc, SVC_INFO, req, "a notable event");
    }}
    return svc_reply(svc, req, DBE_MSG_SOC_EVENT, NULL, 0, true); /* one-way: ends the request, sends nothing */
}}

static dbe_err {name}_init(struct svc *svc, void *state, struct dbe_diag *diag)
{{
    (void)svc, (void)state, (void)diag; /* parameters are read and held against their ranges */
    return DBE_OK;
}}

static void {name}_dump(const void *state, struct svc_dump *out)
{{
    const struct {name} *d = state;

    svc_dumpf(out, "limit=%g events=%" PRIu64 " notables=%" PRIu64, d->limit, d->events, d->notables);
}}

/* ---- the device, declared ------------------------------------------------------------------------------------ */

static const struct svc_route routes[] = {{{{DBE_MSG_SOC_EVENT, on_event}}, {{0}}}};

static const struct svc_param params[] = {{
    {{.key = "limit",
     .unit = "0..1",
     .kind = SVC_PARAM_DOUBLE,
     .def = 0.9,
     .min = 0,
     .max = 1,
     .offset = offsetof(struct {name}, limit),
     .size = sizeof(double),
     .doc = "score from which an event is notable",
     .reload = true}},
    {{.kind = SVC_PARAM_END}},
}};

static const struct svc_counter counters[] = {{
    {{"dsmil_{name}_events_total", "events judged", NULL, SVC_COUNTER, offsetof(struct {name}, events)}},
    {{"dsmil_{name}_notables_total", "events at or above the limit", NULL, SVC_COUNTER,
     offsetof(struct {name}, notables)}},
    {{0}},
}};

static const struct svc_device device = {{
    .device_id = {id},
    .layer = {layer},
    .role = DBE_ROLE_SERVICE,
    .name = "{program}",
    .purpose = "{title}: judges events",
    .state_size = sizeof(struct {name}),
    .routes = routes,
    .params = params,
    .counters = counters,
    .init = {name}_init,
    .dump = {name}_dump,
}};

SVC_MAIN(device)
'''

MESON = '''# SPDX-License-Identifier: Apache-2.0
device_exes += executable('dsmil-{program}', '{name}.c', 'judge.c', dependencies: [runtime_dep, payload_dep],
  include_directories: inc, build_by_default: true, install: true,
  install_dir: get_option('libexecdir') / 'dsmil' / 'devices')
if cmocka_dep.found()
  test('{program}-judge', executable('test_{name}_judge', 'judge_test.c', 'judge.c',
    dependencies: [cmocka_dep, math_dep], include_directories: inc))
endif
'''

FILES = {"{name}.c": DEVICE_C, "judge.c": DECISION_C, "judge.h": DECISION_H, "judge_test.c": TEST_C,
         "meson.build": MESON}
NEXT = """made {folder}/, and its line in devices/meson.build. What only you can say:
  schema/emits.def                who may send device {id} what; then tools/gen_registry.py (see CONTRIBUTING.md)
  {folder}/judge.c      its decision
  cli/up_prepare.c, deploy/       if `dsmil up` or systemd should start it
`make test T={program}-judge` runs its test."""


def row_of(root, number):
    """(layer, title) of a row in schema/devices.def, None if there is none such."""
    for line in (root / "schema" / "devices.def").read_text().splitlines():
        m = re.match(r'DEVICE\((\d+), \w+, (\d+), \d+, \d+, "([^"]+)"\)', line)
        if m and int(m[1]) == number:
            return int(m[2]), m[3]
    return None


def make(root, name, number):
    """The new folder. Raises SystemExit with a sentence when something stands in the way."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{1,30}", name):
        sys.exit(f"new-device: \"{name}\" is no name; expected 2 to 31 of a-z, 0-9 and _, a letter first")
    row = row_of(root, number)
    if row is None:
        sys.exit(f"new-device: {number} is no device of schema/devices.def")
    layer, title = row
    taken = re.compile(rf"\.device_id = {number},")
    for path in sorted((root / "devices").rglob("*.c")):
        if taken.search(path.read_text()):
            sys.exit(f"new-device: device {number} is {path.relative_to(root)} already")
    folder = root / "devices" / f"l{layer}_{name}"
    if folder.exists():
        sys.exit(f"new-device: {folder.relative_to(root)} exists")
    words = {"id": number, "layer": layer, "title": title, "name": name, "upper": name.upper(), "folder": folder.name,
             "guard": folder.name.upper(), "program": f"l{layer}-{name.replace('_', '-')}"}
    folder.mkdir()
    for file, text in FILES.items():
        (folder / file.format(**words)).write_text(text.format(**words))
    with open(root / "devices" / "meson.build", "a", encoding="utf-8") as build:
        build.write(f"subdir('{folder.name}')\n")
    print(NEXT.format(**words | {"folder": str(folder.relative_to(root))}))
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[1])
    parser.add_argument("name")
    parser.add_argument("id", type=int)
    args = parser.parse_args()
    make(args.root, args.name, args.id)


if __name__ == "__main__":
    main()
