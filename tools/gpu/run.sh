#!/usr/bin/env bash
# Runs on a machine with a GPU what tools/gpu/bundle.ts bundled: the tests on the hardware, then every benchmark, and at the
# end the goals of docs/results.md with what was measured. Results go to $OUT, one file a step. Steps are cut off, so that a
# hang costs a minute, not the rest, and all of them together end after $LIMIT seconds.
#
#     OUT=results DENO=deno bash run.sh [STEP]…
#
# Steps: doctor tests driver table5 entropy elementwise gemm codec kvz restore bench, all of a name or one, for instance
# gemm_webgpu. SMALL=1 takes sizes for a device that a processor plays, to test this script.
set -u
cd "$(dirname "$0")"
OUT=$(mkdir -p "${OUT:-results}" && cd "${OUT:-results}" && pwd)
DENO=${DENO:-deno}
LIMIT=${LIMIT:-720}
export NO_COLOR=1 XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}" KVZ_CUDA_LIBRARY="${KVZ_CUDA_LIBRARY:-libcuda.so.1}"
KVZ_CUBLASLT=${KVZ_CUBLASLT:-$(ldconfig -p | awk '/libcublasLt.so.1[0-9]/ { print $NF; exit }')}
[[ -n $KVZ_CUBLASLT ]] || KVZ_CUBLASLT=$(find / -name 'libcublasLt.so.1[0-9]' -not -path '/proc/*' 2> /dev/null | head -n 1)
# Without a name the library is looked for as usual, and missed with a reason.
if [[ -n $KVZ_CUBLASLT ]]; then export KVZ_CUBLASLT; else unset KVZ_CUBLASLT; fi
RUN=("$DENO" run -A --no-config --v8-flags=--max-old-space-size=16000)
TEST=("$DENO" test -A --no-check --no-config --no-lock -q)

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null | tee "$OUT/device"
echo "cuBLASLt: ${KVZ_CUBLASLT:-none}"

# Options that are for small sizes only.
small() { [[ -z ${SMALL:-} ]] || echo "$@"; }

# step NAME SECONDS COMMAND…
step() {
  local name=$1 limit=$2 left=$((LIMIT - SECONDS))
  shift 2
  if ((${#WANTED[@]} > 0)) && [[ " ${WANTED[*]} " != *" ${name%%_*} "* && " ${WANTED[*]} " != *" $name "* ]]; then return; fi
  if ((left < 5)); then
    echo "== [$SECONDS s] $name: left out, $LIMIT s are over"
    return
  fi
  echo "== [$SECONDS s] $name"
  timeout --kill-after 5 "$((limit < left ? limit : left))" "$@" > "$OUT/$name" 2>&1
  local code=$?
  tail -n "${LINES_SHOWN:-14}" "$OUT/$name" | cut -c -400
  ((code == 0)) || echo "== $name: exit code $code"
}
WANTED=("$@")

step doctor 30 "${RUN[@]}" kvz_cli.js doctor
# What goals are for comes first: what is last may not be reached.
step table5_nemo 150 "${RUN[@]}" table5.js --backend "${TABLE5_BACKEND:-cuda}" --model nemo-12b \
  $(small --layers 1 --heads 1 --tokens 256 --sequences 2 --together 1 --components 40,dp --rounds 1)
step entropy_cuda 60 "${RUN[@]}" entropy.js cuda $(small --mebibytes 0.0625 --rounds 1)
step elementwise_cuda 30 "${RUN[@]}" elementwise.js cuda $(small --mebibytes 0.125 --rounds 1)
step elementwise_webgpu 40 "${RUN[@]}" elementwise.js webgpu $(small --mebibytes 0.125 --rounds 1)
step entropy_webgpu 60 "${RUN[@]}" entropy.js webgpu $(small --mebibytes 0.0625 --rounds 1) --mebibytes 1,16,64
step gemm_webgpu 50 "${RUN[@]}" gemm.js webgpu $(small --shapes 256x64 --tokens 64 --rounds 1)
step kvz_cuda 80 "${RUN[@]}" kvz.js cuda --model nemo-12b $(small --features 512 --components 32 --tokens 64 --chunk 32 --batch 64 --rounds 1)
step codec_cuda 80 "${RUN[@]}" codec.js cuda $(small --layers 1 --heads 1 --tokens 200 --components 32 --kvz-components 16 --rounds 1)
step table5_llama 90 "${RUN[@]}" table5.js --backend "${TABLE5_BACKEND:-cuda}" --model llama-3.1-8b \
  $(small --layers 1 --heads 1 --tokens 256 --sequences 1 --components 64 --rounds 1) --sequences 4
# These count our own kernels.
KVZ_CUBLASLT=off step driver 40 "${TEST[@]}" driver_tests.js
KVZ_REQUIRE=${KVZ_REQUIRE:-cuda,webgpu} step tests 150 "${TEST[@]}" tests.js
grep -E "=> " "$OUT/tests" 2> /dev/null | sort -u | head -n 40
LINES_SHOWN=40
step gemm_cuda 45 "${RUN[@]}" gemm.js cuda $(small --shapes 256x64 --tokens 64 --rounds 1)
step restore 60 "${RUN[@]}" restore.js --profiles "$(ls samples/*.kvzp | paste -sd,)"
step codec_webgpu 60 "${RUN[@]}" codec.js webgpu $(small --layers 1 --heads 1 --tokens 200 --components 32 --kvz-components 16 --rounds 1)
step kvz_one 30 "${RUN[@]}" kvz.js cuda --tokens 512 --chunk 512 --batch 512
step kvz_llama 60 "${RUN[@]}" kvz.js cuda --model llama-3.1-8b --components 1000,2000 --tokens 32768 --rounds 3
step kvz_sample 45 "${RUN[@]}" kvz.js cuda --profile samples/smollm2-kvz.kvzp --cache samples/smollm2-256.safetensors --repeat 32
step kvz_webgpu 40 "${RUN[@]}" kvz.js webgpu --only trellis
step bench_cuda 45 "${RUN[@]}" kvz_cli.js bench --backend cuda --seconds 0.2
step bench_webgpu 45 "${RUN[@]}" kvz_cli.js bench --backend webgpu --seconds 0.2
echo "== [$SECONDS s] goals"
"${RUN[@]}" verdicts.js "$OUT" | tee "$OUT/verdicts.md"
