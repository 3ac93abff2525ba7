// htscodecs' rANS Nx16, order 0, on a file: best of N, as JSON. Called by bench/entropy.ts.
#include <htscodecs/rANS_static4x16.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void measure(const char *name, int cpu, int order, unsigned char *data, unsigned size, int rounds, int last) {
  double encode = 1e9, decode = 1e9;
  unsigned coded = 0, restored = 0;
  rans_set_cpu(cpu);
  for (int i = 0; i < rounds; i++) {
    double t0 = now();
    unsigned char *bytes = rans_compress_4x16(data, size, &coded, order);
    double t1 = now();
    unsigned char *back = rans_uncompress_4x16(bytes, coded, &restored);
    double t2 = now();
    if (!back || restored != size || memcmp(back, data, size)) exit(1);
    if (t1 - t0 < encode) encode = t1 - t0;
    if (t2 - t1 < decode) decode = t2 - t1;
    free(bytes);
    free(back);
  }
  printf("{\"name\":\"htscodecs %s\",\"bytes\":%u,\"encode\":%.1f,\"decode\":%.1f}%s", name, coded, size / encode / 1e6,
         size / decode / 1e6, last ? "" : ",");
}

int main(int argc, char **argv) {
  FILE *file = argc > 2 ? fopen(argv[1], "rb") : NULL;
  if (!file) return 1;
  fseek(file, 0, SEEK_END);
  unsigned size = (unsigned)ftell(file);
  rewind(file);
  unsigned char *data = malloc(size);
  if (!data || fread(data, 1, size, file) != size) return 1;
  int rounds = atoi(argv[2]);
  const int x32 = RANS_ORDER_X32;
  printf("[");
  measure("4x16 scalar", 0, 0, data, size, rounds, 0);
  measure("32x16 SSE4", RANS_CPU_ENC_SSE4 | RANS_CPU_DEC_SSE4, x32, data, size, rounds, 0);
  measure("32x16 AVX2", RANS_CPU_ENC_AVX2 | RANS_CPU_DEC_AVX2, x32, data, size, rounds, 0);
  measure("32x16 AVX-512", RANS_CPU_ENC_AVX512 | RANS_CPU_DEC_AVX512, x32, data, size, rounds, 1);
  printf("]\n");
  return 0;
}
