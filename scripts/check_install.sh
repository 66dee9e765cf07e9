#!/usr/bin/env bash
# Builds wheel and sdist, and tries them and every extra in environments of their own; see --help.
set -uo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." || exit 1
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    cat <<'USAGE'
Usage: bash scripts/check_install.sh [EXTRA ...]

Builds the sdist and, from it, the wheel; installs the wheel in a fresh environment, runs `pip check` and a small training run
there; then does the same for each extra of pyproject.toml (default: all): a copy of that environment, `pip install
WHEEL[EXTRA]`, `pip check`, a command that uses the extra, and the tests that are skipped without it. Prints a table in
Markdown; what the commands print goes to build/install/*.log. Needs a package index, 4 GB in $TMPDIR and some twenty
minutes. PYTHON chooses the Python (3.10 or 3.11). The exit code is 0 only if all pass.
USAGE
    exit 0
fi
root=$PWD logs=$PWD/build/install work=$(mktemp -d) failed=0
trap 'rm -rf "$work"' EXIT
mkdir -p "$logs" && rm -f "$logs"/*.log
export MPLBACKEND=Agg OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV
tiny=(--dataset "$root/tests/data/ant_recorded.hdf5" --episode 4 --overwrite --set n_steps_per_episode=20 steps_per_call=10
    offline_train_steps=40 online_warmup=0 batch_size=8 "actor_hidden=[16,16]" "critic_hidden=[16,16]" eval_every=2 eval_episodes=1)

# Each uses what its extra installs, in the folder $work/run with $bin first on PATH.
use_base() {
    awac --version && awac --help && awac train "${tiny[@]}" && awac eval --ckpt_path ckpt --eval_episodes 1 &&
        python -c "import awac, pathlib; folder = pathlib.Path(awac.__file__).parent; assert 'site-packages' in str(folder), folder
assert (folder / 'py.typed').is_file() and any((folder / 'behaviour').iterdir())
from awac import AWAC, evaluate, load_dataset, load_policy, make_env, train
print(awac.__version__, load_policy('ckpt')([0.0] * 111))"
}
use_behaviour() { python "$root/scripts/train_behaviour.py" --help && python -c "import sbx, stable_baselines3"; }
use_completion() { awac completion bash >complete.bash && bash -n complete.bash && awac completion zsh | grep -q '#compdef awac'; }
use_dev() { for tool in pytest ruff mypy; do python -m $tool --version || return; done && python -c "import hatchling.build"; }
use_docs() { (cd "$root" && python -m mkdocs build --strict --quiet --config-file scripts/mkdocs.yml --site-dir "$work/site"); }
use_legacy() {
    [[ $(python -c 'import sys; print(sys.version_info[:2] == (3, 10))') == True ]] || return
    python -c "from awac import make_env
env = make_env('gym:Ant-v2')
print(env.reset(seed=0)[0].shape, env.step(env.action_space.sample())[1:])
assert 'mujoco_py' in __import__('sys').modules"
}
use_minari() {
    export MINARI_DATASETS_PATH=$PWD/minari
    awac convert "$root/tests/data/ant_recorded.hdf5" minari:check/ant-v0 && awac convert minari:check/ant-v0 back.hdf5 &&
        python -c "import minari; print(minari.load_dataset('check/ant-v0').total_episodes)"
}
use_onnx() { awac export --ckpt_path ckpt --format onnx --out policy.onnx; }
use_parquet() { awac convert "$root/tests/data/ant_recorded.hdf5" rows.parquet && awac doctor rows.parquet --task ant-expert-v2; }
use_swanlab() { SWANLAB_MODE=offline awac train "${tiny[@]}" --logger swanlab; }
use_sweep() {
    printf '%s\n' "tasks: [CartPole-v1]" "presets: [cartpole]" "seeds: 1" "episode: 2" "set: {n_steps_per_episode: 50, eval_every: 1}" \
        >one.yaml
    awac sweep one.yaml && awac report sweeps/one && awac report sweeps/one --html report.html
}
use_tensorboard() { awac train "${tiny[@]}" --logger tensorboard; }
use_video() { awac eval --ckpt_path ckpt --eval_episodes 1 --video film.mp4 --video_steps 20 --video_size 160; }
use_wandb() { WANDB_MODE=offline awac train "${tiny[@]}" --logger wandb; }

declare -A tests=([behaviour]=train_behaviour [completion]=completion [minari]=convert [onnx]=export [parquet]="convert sources"
    [swanlab]=loggers [sweep]="sweep whole_report" [tensorboard]=loggers [video]=video [wandb]=loggers)

test_extra() { # NAME PYTHON: the last line of pytest, in words
    local files=() name
    for name in ${tests[$1]:-}; do files+=("tests/test_$name.py"); done
    [[ ${#files[@]} -gt 0 ]] || { echo "–" && return; }
    "$2" -m pip install -q pytest hypothesis >>"$logs/$1.log" 2>&1
    (cd "$root" && "$2" -m pytest -q -p no:cacheprovider "${files[@]}" </dev/null) >>"$logs/$1.log" 2>&1
    tail -n 1 "$logs/$1.log" | sed 's/ in [0-9.]*s.*//; s/=//g'
}

check() { # NAME FOLDER REQUIREMENT: installs, checks, uses; a line of the table
    local log=$logs/$1.log bin=$2/bin checked used=failed tested packages mindspore
    "$bin/python" -m pip install -q "$3" >"$log" 2>&1 || {
        echo "| $1 | not installed | – | – | – | – |" && failed=1
        return
    }
    checked=$("$bin/python" -m pip check 2>&1 | tee -a "$log" | grep -v '^WARNING' | head -n 1)
    packages=$("$bin/python" -m pip list 2>/dev/null | tail -n +3)
    mindspore=$(awk '$1 == "mindspore" { print $2 }' <<<"$packages")
    (cd "$work/run" && PATH=$bin:$PATH && hash -r && "use_$1") >>"$log" 2>&1 </dev/null && used=passed
    tested=$(test_extra "$1" "$bin/python")
    [[ $checked == "No broken requirements found." && $used == passed && $tested =~ ^(–|[0-9]+\ passed.*)$ ]] || failed=1
    echo "| $1 | $checked | $(wc -l <<<"$packages") | $mindspore | $used | $tested |"
}

python=${PYTHON:-python3}
"$python" -m venv "$work/build" && "$work/build/bin/python" -m pip install -q build >"$logs/build.log" 2>&1 &&
    "$work/build/bin/python" -m build --outdir "$work/dist" . >>"$logs/build.log" 2>&1 ||
    { echo "check_install.sh: no wheel, see $logs/build.log" >&2 && exit 1; }
rm -rf "$work/build"
packed=$(tar -tf "$work"/dist/*.tar.gz)
for name in scripts/setup.sh example/awac/scripts/run_standalone_train.sh requirements.lock; do
    grep -q "^[^/]*/$name\$" <<<"$packed" || { echo "check_install.sh: no $name in the sdist" >&2 && exit 1; }
done
wheel=$(echo "$work"/dist/*.whl)
echo "$(basename "$wheel"): $(du -k "$wheel" | cut -f1) kB; $(cd "$work/dist" && ls ./*.tar.gz): $(du -k "$work"/dist/*.tar.gz | cut -f1) kB; $("$python" -V)"
echo "| | pip check | packages | MindSpore | its command | its tests |"
echo "|---|---|---|---|---|---|"
mkdir "$work/run"
# An old pip fetches whole wheels of MindSpore to read what they need.
"$python" -m venv "$work/base" && "$work/base/bin/python" -m pip install -q -U pip >>"$logs/build.log" 2>&1 && check base "$work/base" "$wheel" || exit 1
[[ $# -gt 0 ]] || set -- $(sed -n '/^\[project.optional-dependencies\]/,/^# No/s/^\([a-z]*\) = .*/\1/p' pyproject.toml)
for extra in "$@"; do
    cp -al "$work/base" "$work/$extra" # pip replaces files and changes none in place, so links serve
    printf '#!/bin/sh\nexec "%s" -m awac.cli "$@"\n' "$work/$extra/bin/python" >"$work/awac" && chmod +x "$work/awac" &&
        mv "$work/awac" "$work/$extra/bin/awac" # the copy's would start the original
    check "$extra" "$work/$extra" "$wheel[$extra]"
    rm -rf "${work:?}/$extra"
done
exit $failed
