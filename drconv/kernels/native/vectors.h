// Vectors of the instruction set this file is compiled for, and what the compiler's own vectors lack: masked tails.
//
// Everything here and in the files that include it sits in an anonymous namespace: the same source is compiled once
// per instruction set, and a shared inline function would let the linker pick one that the CPU cannot run. For the
// same reason none of them uses templates of the standard library.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define DRCONV_LANES 16
#elif defined(__AVX2__)
#define DRCONV_LANES 8
#else
#define DRCONV_LANES 4
#endif

#define DRCONV_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define DRCONV_UNROLL _Pragma("clang loop unroll(full)")
#else
#define DRCONV_UNROLL _Pragma("GCC unroll 32")
#endif

namespace {

typedef int64_t Int;

constexpr int kLanes = DRCONV_LANES;

typedef float Vec __attribute__((vector_size(DRCONV_LANES * 4)));
typedef int32_t IntVec __attribute__((vector_size(DRCONV_LANES * 4)));
// The same anywhere in memory.
typedef float LooseVec __attribute__((vector_size(DRCONV_LANES * 4), aligned(4), may_alias));
typedef int32_t LooseIntVec __attribute__((vector_size(DRCONV_LANES * 4), aligned(4), may_alias));

// A number as it may lie in memory: the upper half of a float. All arithmetic is done on floats.
struct Bfloat16 {
  uint16_t bits;
};

typedef uint32_t BitVec __attribute__((vector_size(DRCONV_LANES * 4)));
typedef uint16_t HalfVec __attribute__((vector_size(DRCONV_LANES * 2)));
typedef uint16_t LooseHalfVec __attribute__((vector_size(DRCONV_LANES * 2), aligned(2), may_alias));

DRCONV_INLINE Int least(Int a, Int b) { return a < b ? a : b; }
DRCONV_INLINE Int most(Int a, Int b) { return a < b ? b : a; }
DRCONV_INLINE Int ceil_div(Int a, Int b) { return (a + b - 1) / b; }
DRCONV_INLINE Int round_up(Int a, Int b) { return ceil_div(a, b) * b; }

DRCONV_INLINE Vec load(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }
DRCONV_INLINE void store(float* p, Vec v) { *reinterpret_cast<LooseVec*>(p) = v; }
DRCONV_INLINE Vec splat(float x) { return Vec{} + x; }

DRCONV_INLINE Vec widen(HalfVec v) { return (Vec)(__builtin_convertvector(v, BitVec) << 16); }

// To the nearest, to even halfway; NaN stays NaN.
DRCONV_INLINE HalfVec narrow(Vec v) {
  const BitVec bits = (BitVec)v;
  const BitVec rounded = bits + 0x7fff + ((bits >> 16) & 1);
  return __builtin_convertvector((v == v ? rounded : bits | 0x400000) >> 16, HalfVec);
}

DRCONV_INLINE Vec load(const Bfloat16* p) { return widen(*reinterpret_cast<const LooseHalfVec*>(p)); }
DRCONV_INLINE void store(Bfloat16* p, Vec v) { *reinterpret_cast<LooseHalfVec*>(p) = narrow(v); }

DRCONV_INLINE float value(float x) { return x; }
DRCONV_INLINE float value(Bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float found;
  memcpy(&found, &bits, sizeof(found));
  return found;
}
DRCONV_INLINE void assign(float& to, float x) { to = x; }
DRCONV_INLINE void assign(Bfloat16& to, float x) { to.bits = narrow(splat(x))[0]; }
DRCONV_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

// The first `count` lanes of a vector: the others are neither read from nor written to memory.
#if defined(__AVX512F__)

constexpr bool kCheapTails = true;
struct Tail {
  __mmask16 mask;
  explicit Tail(Int count) : mask(static_cast<__mmask16>(count >= 16 ? 0xffff : (1u << count) - 1)) {}
};
DRCONV_INLINE Vec load(const float* p, Tail t) { return Vec(_mm512_maskz_loadu_ps(t.mask, p)); }
DRCONV_INLINE void store(float* p, Vec v, Tail t) { _mm512_mask_storeu_ps(p, t.mask, __m512(v)); }
DRCONV_INLINE void store(int32_t* p, IntVec v, Tail t) { _mm512_mask_storeu_epi32(p, t.mask, __m512i(v)); }
DRCONV_INLINE IntVec load(const int32_t* p, Tail t) { return IntVec(_mm512_maskz_loadu_epi32(t.mask, p)); }
DRCONV_INLINE Vec load(const Bfloat16* p, Tail t) { return widen(HalfVec(_mm256_maskz_loadu_epi16(t.mask, p))); }
DRCONV_INLINE void store(Bfloat16* p, Vec v, Tail t) { _mm256_mask_storeu_epi16(p, t.mask, __m256i(narrow(v))); }
DRCONV_INLINE Vec keep(Vec v, Tail t) { return Vec(_mm512_maskz_mov_ps(t.mask, __m512(v))); }
DRCONV_INLINE float sum(Vec v) { return _mm512_reduce_add_ps(__m512(v)); }

#elif defined(__AVX2__)

constexpr bool kCheapTails = true;
struct Tail {
  Int count;
  __m256i mask;
  explicit Tail(Int count)
      : count(count < kLanes ? count : kLanes),
        mask(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count > 8 ? 8 : count)),
                                _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0))) {}
};
DRCONV_INLINE Vec load(const float* p, Tail t) { return Vec(_mm256_maskload_ps(p, t.mask)); }
DRCONV_INLINE void store(float* p, Vec v, Tail t) { _mm256_maskstore_ps(p, t.mask, __m256(v)); }
DRCONV_INLINE void store(int32_t* p, IntVec v, Tail t) { _mm256_maskstore_epi32(p, t.mask, __m256i(v)); }
DRCONV_INLINE IntVec load(const int32_t* p, Tail t) { return IntVec(_mm256_maskload_epi32(p, t.mask)); }
DRCONV_INLINE Vec keep(Vec v, Tail t) { return Vec(_mm256_and_ps(__m256(v), _mm256_castsi256_ps(t.mask))); }
DRCONV_INLINE float sum(Vec v) {
  float lane[kLanes], total = 0;
  store(lane, v);
  DRCONV_UNROLL for (int i = 0; i < kLanes; i++) total += lane[i];
  return total;
}

#else

constexpr bool kCheapTails = false;
struct Tail {
  Int count;
  explicit Tail(Int count) : count(count < kLanes ? count : kLanes) {}
};
DRCONV_INLINE Vec load(const float* p, Tail t) {
  Vec v = {};
  for (Int i = 0; i < t.count; i++) v[i] = p[i];
  return v;
}
DRCONV_INLINE void store(float* p, Vec v, Tail t) {
  for (Int i = 0; i < t.count; i++) p[i] = v[i];
}
DRCONV_INLINE void store(int32_t* p, IntVec v, Tail t) {
  for (Int i = 0; i < t.count; i++) p[i] = v[i];
}
DRCONV_INLINE IntVec load(const int32_t* p, Tail t) {
  IntVec v = {};
  for (Int i = 0; i < t.count; i++) v[i] = p[i];
  return v;
}
DRCONV_INLINE Vec keep(Vec v, Tail t) {
  for (Int i = t.count; i < kLanes; i++) v[i] = 0;
  return v;
}
DRCONV_INLINE float sum(Vec v) {
  float total = 0;
  DRCONV_UNROLL for (int i = 0; i < kLanes; i++) total += v[i];
  return total;
}

#endif

#if !defined(__AVX512F__)
DRCONV_INLINE Vec load(const Bfloat16* p, Tail t) {
  HalfVec v = {};
  for (Int i = 0; i < t.count; i++) v[i] = p[i].bits;
  return widen(v);
}
DRCONV_INLINE void store(Bfloat16* p, Vec v, Tail t) {
  const HalfVec half = narrow(v);
  for (Int i = 0; i < t.count; i++) p[i].bits = half[i];
}
#endif

// Copies a row, converting where source and target differ.
template <class From, class To>
DRCONV_INLINE void copy_row(const From* from, Int count, To* to) {
  Int i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, load(from + i));
  if (i < count) store(to + i, load(from + i, Tail(count - i)), Tail(count - i));
}

// The two kinds of last vector of a row of columns. On AVX-512 up to 8 lanes fit half a register at half the cost.
struct WholeLast {
  typedef Vec V;
  Tail tail;
  explicit WholeLast(Int count) : tail(count) {}
  DRCONV_INLINE V load(const float* p) const { return ::load(p, tail); }
  // Without cheap masks filters are packed to whole vectors, see filters.h.
  DRCONV_INLINE V load_filter(const float* p) const { return kCheapTails ? ::load(p, tail) : ::load(p); }
  DRCONV_INLINE void store(float* p, V v) const { ::store(p, v, tail); }
  DRCONV_INLINE float dot(V a, V b) const { return ::sum(keep(a * b, tail)); }
  DRCONV_INLINE Vec product(V a, V b) const { return keep(a * b, tail); }
};

#if defined(__AVX512F__)
constexpr Int kHalfLanes = 8;
struct HalfLast {
  typedef float V __attribute__((vector_size(32)));
  __mmask8 mask;
  explicit HalfLast(Int count) : mask(static_cast<__mmask8>((1u << count) - 1)) {}
  DRCONV_INLINE V load(const float* p) const { return V(_mm256_maskz_loadu_ps(mask, p)); }
  DRCONV_INLINE V load_filter(const float* p) const { return load(p); }
  DRCONV_INLINE void store(float* p, V v) const { _mm256_mask_storeu_ps(p, mask, __m256(v)); }
  DRCONV_INLINE Vec product(V a, V b) const {
    return Vec(_mm512_zextps256_ps512(_mm256_maskz_mul_ps(mask, __m256(a), __m256(b))));
  }
};
#else
constexpr Int kHalfLanes = 0;
typedef WholeLast HalfLast;
#endif

}  // namespace
