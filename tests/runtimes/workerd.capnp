# The worker of workerd.js, bundled, beside its kernels and fixtures. The gate copies this file to where they are.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [(name = "main", worker = .main)],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);

const main :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  modules = [
    (name = "worker.js", esModule = embed "worker.js"),
    (name = "@kvz/kvz/wasm/codec_simd.wasm", wasm = embed "codec_simd.wasm"),
  ],
  bindings = [
    (name = "PROFILE", data = embed "fixtures/profile.kvzp"),
    (name = "CACHE", data = embed "fixtures/cache.safetensors"),
    (name = "REFERENCE", data = embed "fixtures/reference.kvz"),
    (name = "SAMPLE_PROFILE", data = embed "samples/smollm2-demo.kvzp"),
    (name = "SAMPLE_CACHE", data = embed "samples/smollm2-256.safetensors"),
  ],
);
