// The products that XLA's CPU back end is slow at, as XLA FFI calls (see kernels.py, which compiles this file):
//   linear        rows times a matrix that is kept in float32, bfloat16 or int8, with the norm or the gate before it
//                 and the residual sum after it; each weight is read once for a few rows
//   rows          rows of such a matrix
//   decode_step   one query a row against the KV cache, which is written in place
//   square        self-attention of a square of cells with decomposed relative positions, without a score matrix
//   causal        self-attention of a prompt, likewise, which also fills the KV cache
//   attend        attention for training, likewise: each query looks at a span of keys, or has decomposed relative
//                 positions; attend_back gives its gradients
// Sums are float32, and so are the factors, but on a processor that multiplies bfloat16, in matrix units (Intel's AMX) or
// in vectors (AVX512-BF16, which AMD has too): what is kept in bfloat16 or int8 is a factor as bfloat16 there. Vectors
// are the compiler's, of the width of the machine that compiles.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__AVX2__)
#include <immintrin.h>
#endif
#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#define GOT_TILES 1
#endif
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define GOT_PAIRS 1
#endif

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

constexpr int64_t kFew = 16;  // rows that are multiplied as they lie
#if defined(__AVX512F__)
constexpr int kLanes = 16, kTall = 12;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kTall = 6;
#else
constexpr int kLanes = 4, kTall = 4;
#endif
constexpr int kWide = 2 * kLanes;  // columns of a tile

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t IntVec __attribute__((vector_size(kLanes * 4)));
typedef uint16_t HalfVec __attribute__((vector_size(kLanes * 2)));
typedef int8_t ByteVec __attribute__((vector_size(kLanes)));

template <typename To, typename From>
inline To bits(const From& from) {
  To to;
  static_assert(sizeof(To) == sizeof(From));
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

// bfloat16 as it lies in memory: the upper half of a float.
struct Bf16 {
  uint16_t half;
};
inline float widen(float x) { return x; }
inline float widen(int8_t x) { return x; }
inline float widen(Bf16 x) { return bits<float>(uint32_t(x.half) << 16); }
inline void narrow(float x, float* to) { *to = x; }
inline void narrow(float x, Bf16* to) {  // to the nearest, ties to even
  uint32_t b = bits<uint32_t>(x);
  to->half = x != x ? 0x7fc0 : (b + 0x7fff + ((b >> 16) & 1)) >> 16;
}

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline Vec load(const Bf16* p) {
#if defined(__AVX512F__)
  return (Vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16);
#else
  HalfVec h;
  std::memcpy(&h, p, sizeof(h));
  return bits<Vec>(__builtin_convertvector(h, IntVec) << 16);
#endif
}
inline Vec load(const int8_t* p) {
#if defined(__AVX512F__)
  return (Vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
#elif defined(__AVX2__)
  return (Vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)));  // GCC 12 goes lane by lane
#else
  ByteVec b;
  std::memcpy(&b, p, sizeof(b));
  return __builtin_convertvector(__builtin_convertvector(b, IntVec), Vec);
#endif
}
inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof(v)); }
inline void store(Bf16* p, Vec v) {
#if defined(GOT_PAIRS)
  _mm256_storeu_si256((__m256i*)p, (__m256i)_mm512_cvtneps_pbh((__m512)v));
#else
  const IntVec b = bits<IntVec>(v), rounded = b + 0x7fff + ((b >> 16) & 1), half = v != v ? IntVec{} + 0x7fc00000 : rounded;
  const HalfVec h = __builtin_convertvector(half >> 16, HalfVec);
  std::memcpy(p, &h, sizeof(h));
#endif
}
template <typename To>
inline void store_all(const float* from, int64_t count, To* to, float* = nullptr) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, load(from + i));
  for (; i < count; ++i) narrow(from[i], to + i);
}
// As int8 with one scale, which is written too.
inline void store_all(const float* from, int64_t count, int8_t* to, float* scale) {
  float most = 1e-12f;
  for (int64_t i = 0; i < count; ++i) most = std::max(most, std::abs(from[i]));
  *scale = most / 127;
  for (int64_t i = 0; i < count; ++i) to[i] = int8_t(std::nearbyint(from[i] / *scale));
}
inline Vec all(float x) { return x - Vec{}; }
// Asks for a cache line that is needed soon.
inline void ahead(const void* line) {
#if !defined(GOT_WITHOUT_PREFETCH)
  __builtin_prefetch(line);
#endif
}
inline float sum(Vec v) {
  typedef float Four __attribute__((vector_size(16)));
  Four parts[kLanes / 4];
  std::memcpy(parts, &v, sizeof(v));
  for (int i = 1; i < kLanes / 4; ++i) parts[0] += parts[i];
  return (parts[0][0] + parts[0][1]) + (parts[0][2] + parts[0][3]);
}
// The sums of neighbours, of a's and then of b's.
template <size_t... I>
inline Vec pair_sums(Vec a, Vec b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, 2 * I...) + __builtin_shufflevector(a, b, (2 * I + 1)...);
}
// The sum of each of kLanes vectors.
inline Vec sums_of(Vec* v) {
  for (int count = kLanes; count > 1; count /= 2) {
    for (int i = 0; i < count / 2; ++i) v[i] = pair_sums(v[2 * i], v[2 * i + 1], std::make_index_sequence<kLanes>());
  }
  return v[0];
}
// The first (or the last) halves of a and b, number by number.
template <size_t... I>
inline Vec zip(Vec a, Vec b, int half, std::index_sequence<I...>) {
  constexpr int step = kLanes / 2;
  return half ? __builtin_shufflevector(a, b, (I / 2 + I % 2 * kLanes + step)...)
              : __builtin_shufflevector(a, b, (I / 2 + I % 2 * kLanes)...);
}
// A square of kLanes x kLanes numbers, transposed.
inline void transpose(Vec v[kLanes]) {
  constexpr std::make_index_sequence<kLanes> lanes;
  for (int round = kLanes; round > 1; round /= 2) {
    Vec next[kLanes];
    for (int i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = zip(v[i], v[i + kLanes / 2], 0, lanes);
      next[2 * i + 1] = zip(v[i], v[i + kLanes / 2], 1, lanes);
    }
    for (int i = 0; i < kLanes; ++i) v[i] = next[i];
  }
}
inline Vec larger(Vec a, Vec b) { return a > b ? a : b; }

// exp for x <= 0, within two units of the last place (Cody and Waite's reduction, a polynomial of degree 6).
inline Vec exponential(Vec x) {
  x = larger(x, all(-87.0f));
  Vec n = x * 1.44269504f + 12582912.0f;  // adding 1.5 * 2^23 rounds to an integer
  IntVec whole = bits<IntVec>(n) - 0x4b400000;
  n -= 12582912.0f;
  x = x - n * 0.693359375f + n * 2.12194440e-4f;
  Vec p = all(1.9875691500e-4f);
  p = p * x + 1.3981999507e-3f;
  p = p * x + 8.3334519073e-3f;
  p = p * x + 4.1665795894e-2f;
  p = p * x + 1.6666665459e-1f;
  p = p * x + 5.0000001201e-1f;
  p = p * x * x + x + 1.0f;
  return p * bits<Vec>((whole + 127) << 23);
}

// Runs task(0) .. task(count - 1) on the pool's threads and on this one, which never waits for a task that nobody has
// begun: a pool whose threads all run kernels cannot lock up.
template <typename Task>
void spread(ffi::ThreadPool& pool, int64_t count, const Task& task) {
  struct Shared {
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable finished;
  };
  int64_t helpers = std::min<int64_t>(pool.num_threads(), count) - 1;
  if (helpers <= 0) {
    for (int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  auto shared = std::make_shared<Shared>();
  const Task* body = &task;
  auto work = [shared, count, body] {
    for (int64_t i; (i = shared->next++) < count;) {
      (*body)(i);
      if (++shared->done == count) {
        std::lock_guard<std::mutex> lock(shared->mutex);
        shared->finished.notify_all();
      }
    }
  };
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule([work] { work(); });
  work();
  for (int spins = 0; spins < 20000; ++spins) {
    if (shared->done == count) return;
  }
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->finished.wait(lock, [&] { return shared->done == count; });
}

// An array on whole cache lines, of zeros.
template <typename T>
struct Lines {
  explicit Lines(int64_t count) : blocks((count * sizeof(T) + 63) / 64) {}
  T& operator[](int64_t i) { return data()[i]; }
  T* data() { return (T*)blocks.data(); }
  T* begin() { return data(); }
  T* end() { return (T*)(blocks.data() + blocks.size()); }

 private:
  struct alignas(64) Block {
    uint8_t bytes[64];
  };
  std::vector<Block> blocks;
};

// What is done to a product: times scale[out], plus bias[out], plus plus[rows, out]; null: nothing.
struct After {
  const float *scale, *bias, *plus;
  After at(int64_t place, int64_t column) const {
    return {scale ? scale + column : nullptr, bias ? bias + column : nullptr, plus ? plus + place : nullptr};
  }
};

// ----------------------------------------------------------------------------------------------------------- tiles

inline int64_t whole(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

// 16 x 32 numbers of a first factor, or 32 x 16 of a second one, whose columns' numbers lie in pairs.
struct alignas(64) Tile {
  Bf16 at[512];
};
using Tiles = std::unique_ptr<Tile[]>;
inline Tiles tiles_of(int64_t count) { return Tiles(new Tile[std::max<int64_t>(count, 1)]); }

// Two numbers as bfloat16 of neighbouring rows or columns: what AVX512-BF16 multiplies and adds to one float.
using Pair = uint32_t;

inline Vec many(const float* p) { return load(p); }
inline void add(Vec& sum, float x, Vec y) { sum += x * y; }

bool with_vectors_of_floats() {
  const char* setting = std::getenv("GOT_JAX_KERNELS");
  return setting && std::strcmp(setting, "vectors") == 0;
}

#if defined(GOT_PAIRS)
bool has_pairs() { return !with_vectors_of_floats(); }

inline __m512i many(const Pair* p) { return _mm512_loadu_si512(p); }
inline void add(Vec& sum, Pair x, __m512i y) {
  sum = (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(x), (__m512bh)y);
}

inline __mmask16 first_lanes(int64_t count) {
  return count >= 16 ? 0xffff : count <= 0 ? 0 : __mmask16((1u << count) - 1);
}
// Up to 32 numbers as bfloat16; zeros after them.
inline __m512i halves(const float* from, int64_t count) {
  const __m512 low = _mm512_maskz_loadu_ps(first_lanes(count), from);
  const __m512 high = _mm512_maskz_loadu_ps(first_lanes(count - 16), from + 16);
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}
inline __m512i halves(const Bf16* from, int64_t count) {
  const __mmask32 mask = count >= 32 ? 0xffffffff : (1u << count) - 1;
  return _mm512_maskz_loadu_epi16(mask, from);
}
inline __m512i halves(const int8_t* from, int64_t count) {
  __m128i low, high;
  if (count >= 32) {
    low = _mm_loadu_si128((const __m128i*)from);
    high = _mm_loadu_si128((const __m128i*)(from + 16));
  } else {
    low = _mm_maskz_loadu_epi8(first_lanes(count), from);
    high = _mm_maskz_loadu_epi8(first_lanes(count - 16), from + 16);
  }
  const __m512 left = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(low));
  return (__m512i)_mm512_cvtne2ps_pbh(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(high)), left);
}
// The order that takes numbers of two rows, one row after the other, in turn.
inline __m512i turns() {
  alignas(64) int16_t order[32];
  for (int i = 0; i < 32; ++i) order[i] = i / 2 + i % 2 * 16;
  return _mm512_load_si512(order);
}
#else
bool has_pairs() { return false; }
#endif

#if defined(GOT_TILES)
// Are there matrix units to use? Linux lets a process use them once it has asked.
bool has_tiles() {
  static const bool granted = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
  return granted && !with_vectors_of_floats();
}

// The compiler does not know that a tile's load reads memory: what was stored before must lie there.
inline void settle() { asm volatile("" ::: "memory"); }

// While one lives, this thread's eight tile registers have 16 rows of 64 bytes.
struct Tiling {
  Tiling() {
    alignas(64) uint8_t settings[64] = {1};
    for (int i = 0; i < 8; ++i) {
      settings[16 + 2 * i] = 64;
      settings[48 + i] = 16;
    }
    settle();
    _tile_loadconfig(settings);
  }
  ~Tiling() { _tile_release(); }
};

// Up to 16 rows of up to 32 numbers as columns of a second factor.
template <typename From>
inline void columns_tile(const From* from, int64_t stride, int64_t rows, int64_t count, Tile* to) {
  Vec pairs[16];
  for (int i = 0; i < 16; ++i) pairs[i] = i < rows ? (Vec)halves(from + i * stride, count) : Vec{};
  transpose(pairs);
  for (int i = 0; i < 16; ++i) _mm512_store_si512(to->at + 32 * i, (__m512i)pairs[i]);
}

// Up to 16 rows of up to 32 numbers of a first factor.
template <typename From>
inline void rows_tile(const From* from, int64_t stride, int64_t rows, int64_t count, Tile* to) {
  for (int i = 0; i < 16; ++i) {
    _mm512_store_si512(to->at + 32 * i, i < rows ? halves(from + i * stride, count) : _mm512_setzero_si512());
  }
}

// Rows .. Rows x Columns products of tiles, summed over `steps`. Each factor's tiles lie side by side along the sum;
// `a_next` and `b_next` tiles further begin the second row and the second column. `a_stride`: bytes of a tile's row.
template <int Rows, int Columns>
inline void tile_sums(const Bf16* a, int64_t a_step, int64_t a_next, int64_t a_stride, const Tile* b, int64_t b_next,
                      int64_t steps) {
  settle();
  for (int64_t k = 0; k < steps; ++k, a += a_step, ++b) {
    _tile_loadd(4, a, a_stride);
    _tile_loadd(6, b->at, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (Columns > 1) {
      _tile_loadd(7, b[b_next].at, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (Rows > 1) {
      _tile_loadd(5, a + a_next, a_stride);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (Columns > 1) _tile_dpbf16ps(3, 5, 7);
    }
  }
}

// y[rows, out] = x . w^T and what comes after, as tiles of w times tiles of x: the weights stay as they lie.
template <typename W>
void linear_tiles(ffi::ThreadPool& pool, const float* x, const W* w, const After& after, float* y, int64_t rows,
                  int64_t in, int64_t out) {
  const int64_t steps = whole(in, 32) / 32, row_tiles = whole(rows, 16) / 16;
  Tiles packed = tiles_of(row_tiles * steps);
  spread(pool, row_tiles, [&](int64_t m) {
    const float* from = x + m * 16 * in;
    for (int64_t k = 0; k < steps; ++k) {
      columns_tile(from + 32 * k, in, rows - 16 * m, in - 32 * k, &packed[m * steps + k]);
    }
  });
  const int64_t high = std::max<int64_t>(2, (1 << 20) / int64_t(sizeof(Tile)) / steps / 2 * 2);  // stays in the L2 cache
  const int64_t threads = pool.num_threads(), shares = threads * std::max<int64_t>(2, (out - 1) / (threads * 512) + 1);
  const int64_t wide = whole((out + shares - 1) / shares, 32);
  const int64_t blocks = (row_tiles + high - 1) / high, strips = (out + wide - 1) / wide;
  const bool as_it_lies = std::is_same_v<W, Bf16> && row_tiles <= 4 && in % 32 == 0;
  spread(pool, blocks * strips, [&](int64_t task) {
    Tiling tiling;
    Tiles panel = as_it_lies ? nullptr : tiles_of(2 * steps);
    alignas(64) float sums[4][256];
    const int64_t m_end = std::min(row_tiles, (task / strips + 1) * high);
    const int64_t n_end = std::min(out, (task % strips + 1) * wide);
    for (int64_t n = task % strips * wide; n < n_end; n += 32) {
      const bool in_place = as_it_lies && n + 32 <= out;
      if (!in_place) {
        if (!panel) panel = tiles_of(2 * steps);
        for (int64_t part = 0; part < 2; ++part) {
          for (int64_t k = 0; k < steps; ++k) {
            const int64_t first = n + 16 * part;
            rows_tile(w + first * in + 32 * k, in, out - first, in - 32 * k, &panel[part * steps + k]);
          }
        }
      }
      const Bf16* a = in_place ? (const Bf16*)(w + n * in) : panel[0].at;
      const int64_t a_step = in_place ? 32 : 512, a_next = in_place ? 16 * in : 512 * steps;
      const int64_t a_stride = in_place ? in * sizeof(Bf16) : 64;
      for (int64_t m = task / strips * high; m < m_end; m += 2) {
        const int64_t more = std::min<int64_t>(2, m_end - m);
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        const Tile* b = &packed[m * steps];
        if (more == 2) {
          tile_sums<2, 2>(a, a_step, a_next, a_stride, b, steps, steps);
        } else {
          tile_sums<2, 1>(a, a_step, a_next, a_stride, b, steps, steps);
        }
        _tile_stored(0, sums[0], 64);
        _tile_stored(1, sums[1], 64);
        _tile_stored(2, sums[2], 64);
        _tile_stored(3, sums[3], 64);
        for (int64_t part = 0; part < 2; ++part) {
          const int64_t first = n + 16 * part;
          const __mmask16 mask = first_lanes(out - first);
          if (!mask) continue;
          const After rest = after.at(first, first);
          const __m512 times = rest.scale ? _mm512_maskz_loadu_ps(mask, rest.scale) : _mm512_set1_ps(1.0f);
          const __m512 bias = rest.bias ? _mm512_maskz_loadu_ps(mask, rest.bias) : _mm512_setzero_ps();
          for (int64_t column = 0; column < more; ++column) {
            Vec line[16];
            for (int i = 0; i < 16; ++i) line[i] = load(sums[2 * part + column] + 16 * i);
            transpose(line);
            const int64_t row = 16 * (m + column), count = std::min<int64_t>(16, rows - row);
            for (int64_t i = 0; i < count; ++i) {
              __m512 value = _mm512_fmadd_ps((__m512)line[i], times, bias);
              if (rest.plus) value += _mm512_maskz_loadu_ps(mask, rest.plus + (row + i) * out);
              _mm512_mask_storeu_ps(y + (row + i) * out + first, mask, value);
            }
          }
        }
      }
    }
  });
}
#else
bool has_tiles() { return false; }
#endif

// ---------------------------------------------------------------------------------------------------------- linear

// What a step of `dots` multiplies: a vector of numbers, in floats or, of bfloat16, in pairs.
template <typename X, typename W>
struct Step {
  static constexpr int kNumbers = kLanes;
  template <typename From>
  static Vec load(const From* from) { return ::load(from); }
  static void add(Vec& sum, Vec x, Vec w) { sum += x * w; }
};
#if defined(GOT_PAIRS)
template <>
struct Step<Bf16, Bf16> {
  static constexpr int kNumbers = 2 * kLanes;
  static __m512bh load(const Bf16* from) { return (__m512bh)_mm512_loadu_si512(from); }
  static void add(Vec& sum, __m512bh x, __m512bh w) { sum = (Vec)_mm512_dpbf16_ps((__m512)sum, x, w); }
};
#endif

// `Rows` rows of x times `Outs` rows of w.
template <int Rows, int Outs, typename X, typename W>
inline void dots(const X* x, const W* w, const After& after, float* y, int64_t in, int64_t out) {
  using By = Step<X, W>;
  Vec sums[Rows][Outs] = {};
  int64_t k = 0;
  for (; k + By::kNumbers <= in; k += By::kNumbers) {
    if (k % int64_t(64 / sizeof(W)) == 0) {  // the lines of the rows that come next: short rows outrun the hardware
      for (int n = 0; n < Outs; ++n) ahead(w + (n + Outs) * in + k);
    }
    decltype(By::load(w)) weights[Outs];
    for (int n = 0; n < Outs; ++n) weights[n] = By::load(w + n * in + k);
    for (int m = 0; m < Rows; ++m) {
      const auto values = By::load(x + m * in + k);
      for (int n = 0; n < Outs; ++n) By::add(sums[m][n], values, weights[n]);
    }
  }
  for (int m = 0; m < Rows; ++m) {
    for (int n = 0; n < Outs; ++n) {
      float s = sum(sums[m][n]);
      for (int64_t rest = k; rest < in; ++rest) s += widen(x[m * in + rest]) * widen(w[n * in + rest]);
      if (after.scale) s *= after.scale[n];
      if (after.bias) s += after.bias[n];
      if (after.plus) s += after.plus[m * out + n];
      y[m * out + n] = s;
    }
  }
}

template <int Outs, typename X, typename W>
inline void dots_of_rows(const X* x, const W* w, const After& after, float* y, int64_t rows, int64_t in,
                         int64_t out) {
  for (int64_t m = 0; m < rows; m += 4) {
    const After rest = after.at(m * out, 0);
    switch (std::min<int64_t>(4, rows - m)) {
      case 4: dots<4, Outs>(x + m * in, w, rest, y + m * out, in, out); break;
      case 3: dots<3, Outs>(x + m * in, w, rest, y + m * out, in, out); break;
      case 2: dots<2, Outs>(x + m * in, w, rest, y + m * out, in, out); break;
      case 1: dots<1, Outs>(x + m * in, w, rest, y + m * out, in, out); break;
    }
  }
}

// Up to kLanes rows of numbers, the numbers of a place side by side (zeros for missing rows), `stride` from a place to the
// next; at each place `wide` numbers are written, and kLanes while a next place follows.
template <typename From>
inline void side_by_side(const From* from, int64_t row, int64_t rows, int64_t count, float* to, int64_t stride,
                         int64_t wide) {
  int64_t k = 0;
  for (; k + kLanes < count || (wide >= kLanes && k + kLanes <= count); k += kLanes) {
    Vec v[kLanes];
    for (int i = 0; i < kLanes; ++i) v[i] = i < rows ? load(from + i * row + k) : Vec{};
    transpose(v);
    for (int i = 0; i < kLanes; ++i) store(to + (k + i) * stride, v[i]);
  }
  for (; k < count; ++k) {
    for (int64_t i = 0; i < std::min<int64_t>(wide, kLanes); ++i) {
      to[k * stride + i] = i < rows ? widen(from[i * row + k]) : 0.0f;
    }
  }
}

#if defined(GOT_PAIRS)
// The same of pairs; `count` numbers of a row make half as many places, and one more for an odd one.
template <typename From>
inline void side_by_side(const From* from, int64_t row, int64_t rows, int64_t count, Pair* to, int64_t stride,
                         int64_t wide) {
  const int64_t places = (count + 1) / 2;
  for (int64_t k = 0; k < places; k += kLanes) {
    Vec v[kLanes];
    for (int i = 0; i < kLanes; ++i) v[i] = i < rows ? (Vec)halves(from + i * row + 2 * k, count - 2 * k) : Vec{};
    transpose(v);
    for (int64_t i = 0; i < std::min<int64_t>(kLanes, places - k); ++i) {
      Pair* place = to + (k + i) * stride;
      if (k + i + 1 < places || wide >= kLanes) {
        _mm512_storeu_si512(place, (__m512i)v[i]);
      } else {
        _mm512_mask_storeu_epi32(place, first_lanes(wide), (__m512i)v[i]);
      }
    }
  }
}
#endif

// sums[kTall][2] = a . b: kTall rows of x, their numbers (or pairs) side by side, times kWide outputs, likewise. Partial
// sums of kPart are added up: a long sum in one go loses digits.
template <typename Number>
inline void sums_of_tile(const Number* a, const Number* b, int64_t inner, Vec to[kTall][2]) {
  constexpr int64_t kPart = 512;
  for (int64_t start = 0; start < inner; start += kPart) {
    Vec sums[kTall][2] = {};
    for (int64_t k = start; k < std::min(inner, start + kPart); ++k, a += kTall, b += kWide) {
      const auto left = many(b), right = many(b + kLanes);
      for (int m = 0; m < kTall; ++m) {
        add(sums[m][0], a[m], left);
        add(sums[m][1], a[m], right);
      }
    }
    for (int m = 0; m < kTall; ++m) {
      for (int i = 0; i < 2; ++i) to[m][i] = start > 0 ? to[m][i] + sums[m][i] : sums[m][i];
    }
  }
}

// y[rows, out] = x . w^T and what comes after, for many rows: a strip of w is laid out and stays in the cache, and all
// of x passes by it. `Number`: the factors are floats, or pairs of bfloat16.
template <typename Number, typename W>
void linear_strips(ffi::ThreadPool& pool, const float* x, const W* w, const After& after, float* y, int64_t rows,
                   int64_t in, int64_t out) {
  constexpr int64_t kNumbers = std::is_same_v<Number, float> ? 1 : 2;
  constexpr int64_t kDeep = (kLanes == 8 ? 1536 : 1024) * kNumbers, kStrip = 4 * kWide;  // a strip fits the L2 cache
  const int64_t tiles = (rows + kTall - 1) / kTall, threads = pool.num_threads();
  const int64_t places = (in + kNumbers - 1) / kNumbers;
  std::unique_ptr<Number[]> packed(new Number[tiles * kTall * places + kLanes]);
  spread(pool, tiles, [&](int64_t m) {
    const int64_t first = m * kTall, count = std::min<int64_t>(kTall, rows - first);
    side_by_side(x + first * in, in, count, in, &packed[first * places], kTall, m + 1 < tiles ? kTall : kLanes);
  });
  const int64_t strips = threads * ((out + threads * kStrip - 1) / (threads * kStrip));
  const int64_t strip = whole((out + strips - 1) / strips, kWide);
  spread(pool, (out + strip - 1) / strip, [&](int64_t task) {
    const int64_t first = task * strip, last = std::min(out, first + strip), panels = (last - first + kWide - 1) / kWide;
    std::unique_ptr<Number[]> b(new Number[panels * kWide * std::min(kDeep / kNumbers, places)]);
    for (int64_t start = 0; start < in; start += kDeep) {
      const int64_t numbers = std::min(kDeep, in - start), deep = (numbers + kNumbers - 1) / kNumbers;
      const bool ends = start + numbers == in;
      for (int64_t n = 0; n < panels * kWide; n += kLanes) {
        Number* to = &b[n / kWide * kWide * deep + n % kWide];
        side_by_side(w + (first + n) * in + start, in, last - first - n, numbers, to, kWide, kLanes);
      }
      for (int64_t m = 0; m < tiles; ++m) {
        const int64_t count = std::min<int64_t>(kTall, rows - m * kTall);
        for (int64_t n = 0; n < panels; ++n) {
          Vec sums[kTall][2];
          sums_of_tile(&packed[(m * places + start / kNumbers) * kTall], &b[n * kWide * deep], deep, sums);
          const int64_t column = first + n * kWide, columns = std::min<int64_t>(kWide, last - column);
          for (int64_t i = 0; i < count; ++i) {
            const int64_t place = (m * kTall + i) * out + column;
            const After rest = after.at(place, column);
            if (columns == kWide) {
              for (int half = 0; half < 2; ++half) {
                const int64_t c = half * kLanes;
                Vec value = start > 0 ? load(y + place + c) + sums[i][half] : sums[i][half];
                if (ends && rest.scale) value *= load(rest.scale + c);
                if (ends && rest.bias) value += load(rest.bias + c);
                if (ends && rest.plus) value += load(rest.plus + c);
                store(y + place + c, value);
              }
              continue;
            }
            float line[kWide];
            std::memcpy(line, sums[i], sizeof(line));
            for (int64_t c = 0; c < columns; ++c) {
              float value = start > 0 ? y[place + c] + line[c] : line[c];
              if (ends && rest.scale) value *= rest.scale[c];
              if (ends && rest.bias) value += rest.bias[c];
              if (ends && rest.plus) value += rest.plus[c];
              y[place + c] = value;
            }
          }
        }
      }
    }
  });
}

// The same for a few rows: every weight is read once.
template <typename X, typename W>
void linear_dots(ffi::ThreadPool& pool, const X* x, const W* w, const After& after, float* y, int64_t rows, int64_t in,
                 int64_t out) {
  constexpr int kOuts = 3;
  const int64_t block = std::max<int64_t>(6, std::min<int64_t>(510, out / (4 * pool.num_threads()) / 6 * 6));
  spread(pool, (out + block - 1) / block, [&](int64_t i) {
    int64_t n = i * block, end = std::min(out, n + block);
    if (rows == 1) {
      for (; n + 6 <= end; n += 6) dots<1, 6>(x, w + n * in, after.at(n, n), y + n, in, out);
    }
    for (; n + kOuts <= end; n += kOuts) {
      dots_of_rows<kOuts>(x, w + n * in, after.at(n, n), y + n, rows, in, out);
    }
    for (; n < end; ++n) dots_of_rows<1>(x, w + n * in, after.at(n, n), y + n, rows, in, out);
  });
}

// y[rows, out] = x[rows, in] . w[out, in], and what comes after.
template <typename W>
void linear_of(ffi::ThreadPool& pool, const float* x, const W* w, const After& after, float* y, int64_t rows,
               int64_t in, int64_t out) {
#if defined(GOT_PAIRS)
  if constexpr (!std::is_same_v<W, float>) {
    constexpr bool as_kept = std::is_same_v<W, Bf16>;
#if defined(GOT_TILES)
    if (has_tiles() && (as_kept || rows > 4)) return linear_tiles(pool, x, w, after, y, rows, in, out);
#endif
    if (has_pairs()) {
      // int8 must be widened before pairs take it: fewer rows are faster as floats, of the same factors.
      constexpr int64_t few = as_kept ? 48 : 12;
      if (rows > few) return linear_strips<Pair>(pool, x, w, after, y, rows, in, out);
      Lines<Bf16> rounded(rows * in);
      store_all(x, rows * in, rounded.data());
      if constexpr (as_kept) {
        return linear_dots(pool, rounded.data(), w, after, y, rows, in, out);
      } else {
        Lines<float> widened(rows * in);
        for (int64_t i = 0; i < rows * in; ++i) widened[i] = widen(rounded[i]);
        return linear_dots(pool, widened.data(), w, after, y, rows, in, out);
      }
    }
  }
#endif
  if (rows > kFew) return linear_strips<float>(pool, x, w, after, y, rows, in, out);
  linear_dots(pool, x, w, after, y, rows, in, out);
}

// x / sqrt(mean(x^2) + eps) * norm
void root_mean_square(const float* x, const float* norm, float eps, int64_t width, float* to) {
  Vec squares = {};
  int64_t k = 0;
  for (; k + kLanes <= width; k += kLanes) squares += load(x + k) * load(x + k);
  float total = sum(squares);
  for (; k < width; ++k) total += x[k] * x[k];
  const float times = 1.0f / std::sqrt(total / width + eps);
  for (k = 0; k + kLanes <= width; k += kLanes) store(to + k, load(x + k) * times * load(norm + k));
  for (; k < width; ++k) to[k] = x[k] * times * norm[k];
}

// silu(x[.. width]) * x[width ..]
void gate(const float* x, int64_t width, float* to) {
  int64_t k = 0;
  for (; k + kLanes <= width; k += kLanes) {
    const Vec g = load(x + k), e = exponential(g > 0.0f ? -g : g);
    store(to + k, g * load(x + width + k) * (g > 0.0f ? all(1.0f) : e) / (1.0f + e));
  }
  for (; k < width; ++k) to[k] = x[k] / (1.0f + std::exp(-x[k])) * x[width + k];
}

inline const float* maybe(const ffi::Buffer<ffi::F32>& buffer) {
  return buffer.element_count() ? buffer.typed_data() : nullptr;
}

// y = before(x) . w^T * scale + bias + plus. What has no elements is left out; before: norm and eps, or `gated`.
ffi::Error linear(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x, ffi::AnyBuffer w, ffi::Buffer<ffi::F32> scale,
                  ffi::Buffer<ffi::F32> bias, ffi::Buffer<ffi::F32> norm, ffi::Buffer<ffi::F32> plus,
                  ffi::ResultBuffer<ffi::F32> y, float eps, bool gated) {
  const int64_t in = w.dimensions()[1], out = w.dimensions()[0], wide = x.dimensions().back();
  const int64_t rows = x.element_count() / std::max<int64_t>(wide, 1);
  const After after{maybe(scale), maybe(bias), maybe(plus)};
  const float* from = x.typed_data();
  std::unique_ptr<float[]> changed;
  if (gated || maybe(norm)) {
    changed.reset(new float[rows * in]);
    spread(pool, (rows + 3) / 4, [&](int64_t i) {
      for (int64_t r = 4 * i; r < std::min(rows, 4 * i + 4); ++r) {
        if (gated) gate(x.typed_data() + r * wide, in, &changed[r * in]);
        else root_mean_square(x.typed_data() + r * wide, norm.typed_data(), eps, in, &changed[r * in]);
      }
    });
    from = changed.get();
  }
  float* to = y->typed_data();
  switch (w.element_type()) {
    case ffi::F32: linear_of(pool, from, (const float*)w.untyped_data(), after, to, rows, in, out); break;
    case ffi::BF16: linear_of(pool, from, (const Bf16*)w.untyped_data(), after, to, rows, in, out); break;
    case ffi::S8: linear_of(pool, from, (const int8_t*)w.untyped_data(), after, to, rows, in, out); break;
    default: return ffi::Error::InvalidArgument("linear: weights must be float32, bfloat16 or int8");
  }
  return ffi::Error::Success();
}

// Rows of an embedding table as floats.
ffi::Error rows_of(ffi::AnyBuffer w, ffi::Buffer<ffi::F32> scale, ffi::Buffer<ffi::S32> index,
                   ffi::ResultBuffer<ffi::F32> to) {
  const int64_t count = w.dimensions()[0], width = w.dimensions()[1];
  auto read = [&](auto* table) {
    for (int64_t i = 0; i < int64_t(index.element_count()); ++i) {
      const int64_t row = std::min<int64_t>(std::max(index.typed_data()[i], 0), count - 1);
      const float times = maybe(scale) ? scale.typed_data()[row] : 1.0f;
      for (int64_t k = 0; k < width; ++k) to->typed_data()[i * width + k] = widen(table[row * width + k]) * times;
    }
  };
  switch (w.element_type()) {
    case ffi::F32: read((const float*)w.untyped_data()); break;
    case ffi::BF16: read((const Bf16*)w.untyped_data()); break;
    case ffi::S8: read((const int8_t*)w.untyped_data()); break;
    default: return ffi::Error::InvalidArgument("rows: the table must be float32, bfloat16 or int8");
  }
  return ffi::Error::Success();
}

// ----------------------------------------------------------------------------------------------------- decode_step

// A head turned by its position's angles: pairs are (c, c + width / 2).
inline void turn(const float* x, const float* cosines, const float* sines, int64_t width, float scale,
                 float* __restrict to) {
  const int64_t half = width / 2;
  for (int64_t c = 0; c < half; ++c) {
    const float a = x[c], b = x[c + half];
    to[c] = (a * cosines[c] - b * sines[c]) * scale;
    to[c + half] = (b * cosines[c] + a * sines[c]) * scale;
  }
}

// One row and one group of heads: its new key and value go into slot `place`, then its queries look at 0 .. place.
// Keys and values in int8 have a scale a slot.
template <typename T>
void look(const float* q, const float* k, const float* v, const float* cosines, const float* sines, T* keys, T* values,
          float* key_scales, float* value_scales, float* out, int64_t heads, int64_t width, int64_t place,
          int64_t slots) {
  constexpr bool scaled = std::is_same_v<T, int8_t>;
  constexpr int64_t kLine = 64 / sizeof(T), kAhead = 32;  // a head's cache is too short for the hardware's prefetch
  static thread_local std::vector<float> turned;
  turned.resize(width);
  if (place < slots) {
    turn(k, cosines, sines, width, 1.0f, turned.data());
    store_all(turned.data(), width, keys + place * width, key_scales + place);
    store_all(v, width, values + place * width, value_scales + place);
  }
  const int64_t seen = std::min(place + 1, slots), padded = (seen + kLanes - 1) / kLanes * kLanes;
  static thread_local std::vector<float> room;
  room.resize(padded);
  float* scores = room.data();
  const float scale = 1.0f / std::sqrt(float(width));
  for (int64_t head = 0; head < heads; ++head, out += width) {
    turn(q + head * width, cosines, sines, width, scale, turned.data());
    const float* query = turned.data();
    float top = -std::numeric_limits<float>::infinity();
    int64_t s = 0;
    for (; s + kLanes <= seen; s += kLanes) {
      Vec dot[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        const T* key = keys + (s + i) * width;
        dot[i] = Vec{};
        for (int64_t c = 0; c < width; c += kLine) ahead(key + kAhead * width + c);
        for (int64_t c = 0; c + kLanes <= width; c += kLanes) dot[i] += load(query + c) * load(key + c);
      }
      store(scores + s, sums_of(dot));
      for (int64_t c = width / kLanes * kLanes; c < width; ++c) {
        for (int i = 0; i < kLanes; ++i) scores[s + i] += query[c] * widen(keys[(s + i) * width + c]);
      }
    }
    for (; s < seen; ++s) dots<1, 1>(query, keys + s * width, After{}, scores + s, width, 0);
    if (scaled) {
      for (s = 0; s < seen; ++s) scores[s] *= key_scales[s];
    }
    for (s = 0; s < seen; ++s) top = std::max(top, scores[s]);
    for (int64_t s = seen; s < padded; ++s) scores[s] = -std::numeric_limits<float>::infinity();
    Vec total = {};
    for (int64_t s = 0; s < padded; s += kLanes) {
      Vec e = exponential(load(scores + s) - top);
      store(scores + s, e);
      if (s + kLanes <= seen) total += e;
    }
    float weight = sum(total);
    for (int64_t s = seen / kLanes * kLanes; s < seen; ++s) weight += scores[s];
    if (scaled) {
      for (int64_t s = 0; s < seen; ++s) scores[s] *= value_scales[s];
    }
    int64_t c = 0;
    for (; c + 4 * kLanes <= width; c += 4 * kLanes) {
      Vec sums[4] = {};
      for (int64_t s = 0; s < seen; ++s) {
        for (int64_t l = 0; l < 4 * kLanes; l += kLine) ahead(values + (s + kAhead) * width + c + l);
        for (int i = 0; i < 4; ++i) sums[i] += scores[s] * load(values + s * width + c + i * kLanes);
      }
      for (int i = 0; i < 4; ++i) store(out + c + i * kLanes, sums[i] / weight);
    }
    for (; c < width; ++c) {
      float s_sum = 0;
      for (int64_t s = 0; s < seen; ++s) s_sum += scores[s] * widen(values[s * width + c]);
      out[c] = s_sum / weight;
    }
  }
}

// heads [B, K + 2 G, C] (queries, keys, values), cosines and sines [B, C / 2], positions [B], caches [B, G, S, C] and
// their scales [B, G, S] (of int8) -> out [B, K, C], the caches and their scales.
ffi::Error decode_step(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> all_heads, ffi::Buffer<ffi::F32> cosines,
                       ffi::Buffer<ffi::F32> sines, ffi::Buffer<ffi::S32> positions, ffi::AnyBuffer, ffi::AnyBuffer,
                       ffi::Buffer<ffi::F32>, ffi::Buffer<ffi::F32>, ffi::ResultBuffer<ffi::F32> out,
                       ffi::Result<ffi::AnyBuffer> keys, ffi::Result<ffi::AnyBuffer> values,
                       ffi::ResultBuffer<ffi::F32> key_scales, ffi::ResultBuffer<ffi::F32> value_scales) {
  auto shape = keys->dimensions();
  const int64_t rows = shape[0], groups = shape[1], slots = shape[2], width = shape[3];
  const int64_t count = all_heads.dimensions()[1] - 2 * groups, heads = count / groups;
  auto run = [&](auto* key, auto* value) {
    spread(pool, rows * groups, [&](int64_t i) {
      const int64_t row = i / groups, group = i % groups, angle = row * (width / 2);
      const float* from = all_heads.typed_data() + row * (count + 2 * groups) * width;
      look(from + group * heads * width, from + (count + group) * width, from + (count + groups + group) * width,
           cosines.typed_data() + angle, sines.typed_data() + angle, key + i * slots * width, value + i * slots * width,
           key_scales->typed_data() + i * slots, value_scales->typed_data() + i * slots,
           out->typed_data() + i * heads * width, heads, width, positions.typed_data()[row], slots);
    });
  };
  switch (keys->element_type()) {
    case ffi::F32: run((float*)keys->untyped_data(), (float*)values->untyped_data()); break;
    case ffi::BF16: run((Bf16*)keys->untyped_data(), (Bf16*)values->untyped_data()); break;
    case ffi::S8: run((int8_t*)keys->untyped_data(), (int8_t*)values->untyped_data()); break;
    default: return ffi::Error::InvalidArgument("decode_step: the cache must be float32, bfloat16 or int8");
  }
  return ffi::Error::Success();
}

// ----------------------------------------------------------------------------------------------- square and causal

// c[Rows, kWide] += a[Rows, inner] . b[inner, kWide]; `Turned`: a lies as [inner, Rows]. Of pairs, `inner` counts pairs.
template <int Rows, bool Turned, typename Number>
inline void tile(const Number* a, int64_t lda, const Number* b, int64_t ldb, float* c, int64_t ldc, int64_t inner) {
  Vec sums[Rows][2];
  for (int m = 0; m < Rows; ++m) {
    for (int i = 0; i < 2; ++i) sums[m][i] = load(c + m * ldc + i * kLanes);
  }
  for (int64_t k = 0; k < inner; ++k) {
    const auto left = many(b + k * ldb), right = many(b + k * ldb + kLanes);
    for (int m = 0; m < Rows; ++m) {
      const Number x = Turned ? a[k * lda + m] : a[m * lda + k];
      add(sums[m][0], x, left);
      add(sums[m][1], x, right);
    }
  }
  for (int m = 0; m < Rows; ++m) {
    for (int i = 0; i < 2; ++i) store(c + m * ldc + i * kLanes, sums[m][i]);
  }
}

template <int Rows, bool Turned, typename Number>
void last_rows(int64_t rows, const Number* a, int64_t lda, const Number* b, int64_t ldb, float* c, int64_t ldc,
               int64_t inner) {
  if constexpr (Rows > 0) {
    if (rows == Rows) {
      tile<Rows, Turned>(a, lda, b, ldb, c, ldc, inner);
    } else {
      last_rows<Rows - 1, Turned>(rows, a, lda, b, ldb, c, ldc, inner);
    }
  }
}

// c[rows, columns] += a . b for whole tiles of columns
template <bool Turned, typename Number>
void add_product(const Number* a, int64_t lda, const Number* b, int64_t ldb, float* c, int64_t ldc, int64_t rows,
                 int64_t columns, int64_t inner) {
  const int64_t next = Turned ? 1 : lda;
  for (int64_t n = 0; n < columns; n += kWide) {
    int64_t m = 0;
    for (; m + kTall <= rows; m += kTall) {
      tile<kTall, Turned>(a + m * next, lda, b + n, ldb, c + m * ldc + n, ldc, inner);
    }
    last_rows<kTall - 1, Turned>(rows - m, a + m * next, lda, b + n, ldb, c + m * ldc + n, ldc, inner);
  }
}

// The two ways to multiply: how factors are laid out, and c += a . b for them. Both pad a second factor's columns to
// whole tiles of kColumns, so `columns` below is a multiple of it.
struct Floats {
  using Number = float;
  static constexpr int64_t kColumns = kWide;
  struct Scope {};
  static int64_t rows(int64_t count) { return count; }
  static int64_t inner(int64_t count) { return count; }
  static int64_t size(int64_t inner, int64_t columns) { return inner * columns; }
  // How much of a second factor's `all` rows to sum over when what meets those after the first `count` is zero.
  static int64_t enough(int64_t count, int64_t) { return count; }

  static void first(const float* from, int64_t stride, int64_t rows, int64_t width, float scale, float* to) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < width; ++c) to[r * width + c] = from[r * stride + c] * scale;
    }
  }
  static void rows_of(const float* from, int64_t stride, int64_t rows, int64_t width, float* to, int64_t next) {
    second(from, stride, rows, width, to, next);
  }
  // A second factor whose columns are `from`'s rows.
  static void second_turned(const float* from, int64_t stride, int64_t rows, int64_t width, float* to,
                            int64_t columns) {
    for (int64_t r = 0; r < rows; r += kLanes) {
      side_by_side(from + r * stride, stride, rows - r, width, to + r, columns, kLanes);
    }
  }
  // A second factor as it is.
  static void second(const float* from, int64_t stride, int64_t rows, int64_t width, float* to, int64_t columns) {
    for (int64_t r = 0; r < rows; ++r) std::memcpy(to + r * columns, from + r * stride, width * sizeof(float));
  }
  static void product(const float* a, int64_t lda, const float* b, int64_t columns, float* c, int64_t ldc,
                      int64_t rows, int64_t part, int64_t inner) {
    add_product<false>(a, lda, b, columns, c, ldc, rows, part, inner);
  }
  // A block of rows as a first factor, and as one that lies turned: the block itself.
  static const float* block(const float* from, int64_t, int64_t, int64_t, Lines<float>&) { return from; }
  static const float* turned_block(const float* from, int64_t, int64_t, int64_t, Lines<float>&) { return from; }
};

#if defined(GOT_PAIRS)
// Factors of `attend` rounded to bfloat16: a first factor's rows, and a second one's columns, hold pairs.
struct Pairs {
  using Number = Pair;
  static int64_t inner(int64_t count) { return (count + 1) / 2; }

  // 16 numbers of two rows in turn; zeros after the first `count`.
  static __m512i in_turn(const float* even, const float* odd, int64_t count, __m512i order) {
    const __mmask16 mask = first_lanes(count);
    const __m512 second = odd ? _mm512_maskz_loadu_ps(mask, odd) : __m512{};
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(second, _mm512_maskz_loadu_ps(mask, even));
    return _mm512_permutexvar_epi16(order, both);
  }

  static void rows_of(const float* from, int64_t stride, int64_t rows, int64_t width, Pair* to, int64_t next) {
    for (int64_t r = 0; r < rows; ++r, from += stride, to += next) {
      for (int64_t c = 0; c < width; c += 32) _mm512_storeu_si512(to + c / 2, halves(from + c, width - c));
    }
  }
  static void second_turned(const float* from, int64_t stride, int64_t rows, int64_t width, Pair* to,
                            int64_t columns) {
    for (int64_t r = 0; r < rows; r += kLanes) {
      side_by_side(from + r * stride, stride, rows - r, width, to + r, columns, kLanes);
    }
  }
  static void second(const float* from, int64_t stride, int64_t rows, int64_t width, Pair* to, int64_t columns) {
    const __m512i order = turns();
    for (int64_t r = 0; r < rows; r += 2, from += 2 * stride, to += columns) {
      const float* odd = r + 1 < rows ? from + stride : nullptr;
      for (int64_t c = 0; c < width; c += 16) {
        _mm512_storeu_si512(to + c, in_turn(from + c, odd ? odd + c : nullptr, width - c, order));
      }
    }
  }
  // The same of a block [rows, count] that is one factor and then another.
  static const Pair* block(const float* from, int64_t stride, int64_t rows, int64_t count, Lines<Pair>& to) {
    rows_of(from, stride, rows, count, to.data(), inner(stride));
    return to.data();
  }
  static const Pair* turned_block(const float* from, int64_t stride, int64_t rows, int64_t count, Lines<Pair>& to) {
    second(from, stride, rows, count, to.data(), stride);
    return to.data();
  }
};
#endif

#if defined(GOT_PAIRS)
// Factors of `square` and `causal` rounded to bfloat16: rows of a first factor are filled up with zeros.
struct Rounded {
  using Number = Bf16;
  static constexpr int64_t kColumns = 32;
  static int64_t inner(int64_t count) { return whole(count, 32); }
  static int64_t size(int64_t inner, int64_t columns) { return whole(inner, 32) * columns; }

  static void first(const float* from, int64_t stride, int64_t rows, int64_t width, float scale, Bf16* to) {
    const int64_t wide = inner(width);
    const __m512 times = _mm512_set1_ps(scale);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < wide; c += 32) {
        const float* at = from + r * stride + c;
        const __m512 low = _mm512_maskz_loadu_ps(first_lanes(width - c), at) * times;
        const __m512 high = _mm512_maskz_loadu_ps(first_lanes(width - c - 16), at + 16) * times;
        _mm512_storeu_si512(to + r * wide + c, (__m512i)_mm512_cvtne2ps_pbh(high, low));
      }
    }
  }
};

// Multiplied by vectors.
struct InVectors : Rounded {
  struct Scope {};
  static int64_t rows(int64_t count) { return count; }
  static int64_t enough(int64_t count, int64_t) { return count; }
  static void second_turned(const float* from, int64_t stride, int64_t rows, int64_t width, Bf16* to,
                            int64_t columns) {
    Pairs::second_turned(from, stride, rows, width, (Pair*)to, columns);
  }
  static void second(const float* from, int64_t stride, int64_t rows, int64_t width, Bf16* to, int64_t columns) {
    Pairs::second(from, stride, rows, width, (Pair*)to, columns);
  }
  static void product(const Bf16* a, int64_t lda, const Bf16* b, int64_t columns, float* c, int64_t ldc, int64_t rows,
                      int64_t part, int64_t inner) {
    add_product<false>((const Pair*)a, lda / 2, (const Pair*)b, columns, c, ldc, rows, part, (inner + 1) / 2);
  }
};
#endif

#if defined(GOT_TILES)
// Multiplied by matrix units.
struct InTiles : Rounded {
  using Scope = Tiling;
  static int64_t rows(int64_t count) { return whole(count, 32); }
  static int64_t enough(int64_t, int64_t all) { return all; }  // tiles lie as far apart as all of it takes
  static void second_turned(const float* from, int64_t stride, int64_t rows, int64_t width, Bf16* to,
                            int64_t columns) {
    Tile* at = (Tile*)to;
    for (int64_t n = 0; n < columns; n += 16) {
      for (int64_t k = 0; k < width; k += 32) columns_tile(from + n * stride + k, stride, rows - n, width - k, at++);
    }
  }
  static void second(const float* from, int64_t stride, int64_t rows, int64_t width, Bf16* to, int64_t columns) {
    const __m512i pairs = turns();
    Tile* at = (Tile*)to;
    for (int64_t n = 0; n < columns; n += 16) {
      const __mmask16 mask = first_lanes(width - n);
      for (int64_t k = 0; k < rows; k += 32, ++at) {
        for (int64_t i = 0; i < 16; ++i) {
          const float* pair = from + (k + 2 * i) * stride + n;
          const __m512 even = _mm512_maskz_loadu_ps(k + 2 * i < rows ? mask : 0, pair);
          const __m512 odd = _mm512_maskz_loadu_ps(k + 2 * i + 1 < rows ? mask : 0, pair + stride);
          const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(odd, even);
          _mm512_store_si512(at->at + 32 * i, _mm512_permutexvar_epi16(pairs, both));
        }
      }
    }
  }
  static void product(const Bf16* a, int64_t lda, const Bf16* b, int64_t, float* c, int64_t ldc, int64_t rows,
                      int64_t part, int64_t inner) {
    const int64_t steps = whole(inner, 32) / 32, down = 16 * ldc, stride = ldc * sizeof(float);
    for (int64_t n = 0; n < part; n += 32) {
      const Tile* second = (const Tile*)b + n / 16 * steps;
      for (int64_t m = 0; m < rows; m += 32) {
        float* to = c + m * ldc + n;
        settle();
        _tile_loadd(0, to, stride);
        _tile_loadd(1, to + 16, stride);
        if (rows - m > 16) {
          _tile_loadd(2, to + down, stride);
          _tile_loadd(3, to + down + 16, stride);
          tile_sums<2, 2>(a + m * lda, 32, 16 * lda, lda * sizeof(Bf16), second, steps, steps);
          _tile_stored(2, to + down, stride);
          _tile_stored(3, to + down + 16, stride);
        } else {
          tile_sums<1, 2>(a + m * lda, 32, 16 * lda, lda * sizeof(Bf16), second, steps, steps);
        }
        _tile_stored(0, to, stride);
        _tile_stored(1, to + 16, stride);
      }
    }
  }
};
#endif

// Scores of a block become weights exp(score - top); what was summed under an earlier top is scaled to the new one.
template <typename To>
void weigh(const float* s, To* to, int64_t count, float* top, float* total, float* sums, int64_t wide) {
  Vec most = all(*top);
  for (int64_t j = 0; j < count; j += kLanes) most = larger(most, load(s + j));
  float best = most[0];
  for (int i = 1; i < kLanes; ++i) best = std::max(best, most[i]);
  if (best > *top) {
    const float shrink = std::exp(*top - best);
    for (int64_t c = 0; c < wide; c += kLanes) store(sums + c, load(sums + c) * shrink);
    *total *= shrink;
    *top = best;
  }
  Vec added = {};
  for (int64_t j = 0; j < count; j += kLanes) {
    Vec x = load(s + j), e = exponential(x - best);
    e = x == -std::numeric_limits<float>::infinity() ? Vec{} : e;
    store(to + j, e);
    added += e;
  }
  *total += sum(added);
}

// One head of one square: the queries of the grid's rows first .. last - 1 look at all cells.
struct Square {
  const float *qkv, *table_h, *table_w;
  float* out;
  int64_t side, width, stride;  // stride: floats from a cell's q to the next cell's; k and v lie `part` further
  int64_t part, out_stride;

  template <typename Way>
  void run(int64_t first, int64_t last) const {
    using Number = typename Way::Number;
    [[maybe_unused]] typename Way::Scope scope;
    const auto columns = [](int64_t count) { return whole(count, Way::kColumns); };
    const int64_t cells = side * side, tables = 2 * side - 1, wide = columns(width), tall = whole(tables, kWide);
    const int64_t grid_rows = std::max<int64_t>(1, std::min<int64_t>(side, 256 / side));  // keys of a block, in rows
    const int64_t keys = grid_rows * side, padded = columns(keys), blocks = (side + grid_rows - 1) / grid_rows;
    const int64_t at_once = std::max<int64_t>(1, 64 / side), most = Way::rows(at_once * side);  // queries, in rows
    const int64_t deep = Way::inner(width), k_size = Way::size(width, padded), v_size = Way::size(keys, wide);
    const float none = -std::numeric_limits<float>::infinity(), scale = 1.0f / std::sqrt(float(width));
    Lines<Number> k(blocks * k_size), v(blocks * v_size), q(most * deep), weights(most * padded);
    Lines<float> plain(at_once * side * width), th(width * tall), tw(width * tall), bias_h(at_once * side * tall),
        bias_w(at_once * side * tall), scores(most * padded), sums(most * wide), top(most), total(most);
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t start = b * keys, count = std::min(keys, cells - start);
      Way::second_turned(qkv + part + start * stride, stride, count, width, &k[b * k_size], padded);
      Way::second(qkv + 2 * part + start * stride, stride, count, width, &v[b * v_size], wide);
    }
    Floats::second_turned(table_h, width, tables, width, th.data(), tall);
    Floats::second_turned(table_w, width, tables, width, tw.data(), tall);
    for (int64_t row = first; row < last; row += at_once) {
      const int64_t queries = std::min(at_once, last - row) * side;
      const float* from = qkv + row * side * stride;
      Floats::first(from, stride, queries, width, 1.0f, plain.data());
      std::fill(bias_h.begin(), bias_h.end(), 0.0f);
      std::fill(bias_w.begin(), bias_w.end(), 0.0f);
      Floats::product(plain.data(), width, th.data(), tall, bias_h.data(), tall, queries, tall, width);
      Floats::product(plain.data(), width, tw.data(), tall, bias_w.data(), tall, queries, tall, width);
      Way::first(from, stride, queries, width, scale, q.data());
      std::fill(sums.begin(), sums.end(), 0.0f);
      std::fill(total.begin(), total.end(), 0.0f);
      std::fill(top.begin(), top.end(), none);
      for (int64_t b = 0; b < blocks; ++b) {
        const int64_t begin = b * grid_rows, end = std::min(side, begin + grid_rows), count = (end - begin) * side;
        for (int64_t i = 0; i < queries; ++i) {
          float* s = &scores[i * padded];
          const int64_t y = row + i / side, x = i % side;
          for (int64_t h = begin; h < end; ++h) {  // entry i - j + side - 1 of a table: query i, key j
            const float bias = bias_h[i * tall + y - h + side - 1], *w = &bias_w[i * tall + x + side - 1];
            for (int64_t j = 0; j < side; ++j) *s++ = bias + w[-j];
          }
          std::fill(s, &scores[i * padded] + padded, none);
        }
        Way::product(q.data(), deep, &k[b * k_size], padded, scores.data(), padded, queries, padded, width);
        Number* weight = std::is_same_v<Number, float> ? (Number*)scores.data() : weights.data();
        for (int64_t i = 0; i < queries; ++i) {
          weigh(&scores[i * padded], weight + i * padded, padded, &top[i], &total[i], &sums[i * wide], wide);
        }
        Way::product(weight, padded, &v[b * v_size], wide, sums.data(), wide, queries, wide, count);
      }
      for (int64_t i = 0; i < queries; ++i) {
        float* to = out + (row * side + i) * out_stride;
        for (int64_t c = 0; c < width; ++c) to[c] = sums[i * wide + c] / total[i];
      }
    }
  }
};

// qkv [B, side * side, 3, K, C], tables [2 * side - 1, C] -> [B, side * side, K, C]; `rounded`: in bfloat16 where the
// processor multiplies that
ffi::Error square(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> qkv, ffi::Buffer<ffi::F32> table_h,
                  ffi::Buffer<ffi::F32> table_w, ffi::ResultBuffer<ffi::F32> out, bool rounded) {
  auto shape = qkv.dimensions();
  const int64_t count = shape[0], cells = shape[1], heads = shape[3], width = shape[4];
  const int64_t side = (table_h.dimensions()[0] + 1) / 2, stride = 3 * heads * width;
  const int64_t squares = count * heads;
  int64_t cuts = 1;  // a large square is shared by tasks that each lay out its keys anew
  while (squares * cuts < 2 * pool.num_threads() && cuts * 8 <= side) cuts *= 2;
  spread(pool, squares * cuts, [&](int64_t i) {
    const int64_t b = i / cuts / heads, head = i / cuts % heads, cut = i % cuts;
    Square one{qkv.typed_data() + b * cells * stride + head * width,
               table_h.typed_data(),
               table_w.typed_data(),
               out->typed_data() + b * cells * heads * width + head * width,
               side,
               width,
               stride,
               heads * width,
               heads * width};
    const int64_t first = side * cut / cuts, last = side * (cut + 1) / cuts;
#if defined(GOT_TILES)
    if (rounded && has_tiles()) return one.run<InTiles>(first, last);
#endif
#if defined(GOT_PAIRS)
    if (rounded && has_pairs()) return one.run<InVectors>(first, last);
#endif
    one.run<Floats>(first, last);
  });
  return ffi::Error::Success();
}

// Rows first .. last - 1 of one head: each looks at the keys up to its own place.
struct Causal {
  const float *q, *cosines, *sines, *k, *v;  // k is rotated already, and lies together
  float* out;
  int64_t width, stride, out_stride;  // floats from a token to the next, of q and v, and of `out`

  template <typename Way>
  void run(int64_t first, int64_t last) const {
    using Number = typename Way::Number;
    [[maybe_unused]] typename Way::Scope scope;
    constexpr int64_t kRows = 64, kKeys = 256;
    const int64_t wide = whole(width, Way::kColumns), blocks = (last + kKeys - 1) / kKeys, deep = Way::inner(width);
    const int64_t k_size = Way::size(width, kKeys), v_size = Way::size(kKeys, wide);
    const float none = -std::numeric_limits<float>::infinity(), scale = 1.0f / std::sqrt(float(width));
    Lines<Number> keys(blocks * k_size), values(blocks * v_size), rows(kRows * deep), weights(kRows * kKeys);
    Lines<float> turned(kRows * width), scores(kRows * kKeys), sums(kRows * wide), top(kRows), total(kRows);
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t start = b * kKeys, count = std::min(kKeys, last - start);
      Way::second_turned(k + start * width, width, count, width, &keys[b * k_size], kKeys);
      Way::second(v + start * stride, stride, count, width, &values[b * v_size], wide);
    }
    for (int64_t row = first; row < last; row += kRows) {
      const int64_t count = std::min(kRows, last - row);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t angle = (row + i) * (width / 2);
        turn(q + (row + i) * stride, cosines + angle, sines + angle, width, scale, &turned[i * width]);
      }
      Way::first(turned.data(), width, count, width, 1.0f, rows.data());
      std::fill(sums.begin(), sums.end(), 0.0f);
      std::fill(total.begin(), total.end(), 0.0f);
      std::fill(top.begin(), top.end(), none);
      for (int64_t b = 0; b * kKeys < row + count; ++b) {
        const int64_t start = b * kKeys, there = std::min(kKeys, last - start);
        const int64_t seen = std::min(kKeys, row + count - start), padded = whole(seen, Way::kColumns);
        std::fill(scores.begin(), scores.end(), 0.0f);
        Way::product(rows.data(), deep, &keys[b * k_size], kKeys, scores.data(), kKeys, count, padded, width);
        Number* weight = std::is_same_v<Number, float> ? (Number*)scores.data() : weights.data();
        for (int64_t i = 0; i < count; ++i) {
          float* s = &scores[i * kKeys];
          const int64_t own = std::max<int64_t>(0, std::min(padded, row + i + 1 - start)), end = whole(own, kLanes);
          std::fill(s + own, s + end, none);
          if (own > 0) weigh(s, weight + i * kKeys, end, &top[i], &total[i], &sums[i * wide], wide);
          std::fill(weight + i * kKeys + end, weight + (i + 1) * kKeys, Number{});
        }
        Way::product(weight, kKeys, &values[b * v_size], wide, sums.data(), wide, count, wide, Way::enough(seen, there));
      }
      for (int64_t i = 0; i < count; ++i) {
        for (int64_t c = 0; c < width; ++c) out[(row + i) * out_stride + c] = sums[i * wide + c] / total[i];
      }
    }
  }
};

// heads [B, L, K + 2 G, C] (queries, keys, values), cosines and sines [B, L, C / 2] -> out [B, L, K, C], caches
// [B, G, S, C] and their scales [B, G, S] (of int8), with zeros after L; `rounded` as above
ffi::Error causal(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> all_heads, ffi::Buffer<ffi::F32> cosines,
                  ffi::Buffer<ffi::F32> sines, ffi::ResultBuffer<ffi::F32> out, ffi::Result<ffi::AnyBuffer> keys,
                  ffi::Result<ffi::AnyBuffer> values, ffi::ResultBuffer<ffi::F32> key_scales,
                  ffi::ResultBuffer<ffi::F32> value_scales, bool rounded) {
  auto shape = keys->dimensions();
  const int64_t rows = shape[0], groups = shape[1], slots = shape[2], width = shape[3];
  const int64_t length = all_heads.dimensions()[1], heads = all_heads.dimensions()[2] - 2 * groups;
  const int64_t stride = (heads + 2 * groups) * width, angles = length * (width / 2);
  const float* from = all_heads.typed_data();
  std::unique_ptr<float[]> turned(new float[rows * groups * length * width]);
  auto fill = [&](auto* key, auto* value) {
    spread(pool, rows * groups, [&](int64_t i) {
      const int64_t row = i / groups, group = i % groups;
      const float* k = from + row * length * stride + (heads + group) * width;
      for (int64_t t = 0; t < length; ++t) {
        const int64_t angle = row * angles + t * (width / 2), place = (i * slots + t) * width;
        float* to = &turned[(i * length + t) * width];
        turn(k + t * stride, cosines.typed_data() + angle, sines.typed_data() + angle, width, 1.0f, to);
        store_all(to, width, key + place, key_scales->typed_data() + i * slots + t);
        store_all(k + t * stride + groups * width, width, value + place, value_scales->typed_data() + i * slots + t);
      }
      if (key_scales->element_count() > 0) {
        std::fill_n(key_scales->typed_data() + i * slots + length, slots - length, 0.0f);
        std::fill_n(value_scales->typed_data() + i * slots + length, slots - length, 0.0f);
      }
      const int64_t rest = (slots - length) * width;
      std::memset((void*)(key + (i * slots + length) * width), 0, rest * sizeof(*key));
      std::memset((void*)(value + (i * slots + length) * width), 0, rest * sizeof(*value));
    });
  };
  switch (keys->element_type()) {
    case ffi::F32: fill((float*)keys->untyped_data(), (float*)values->untyped_data()); break;
    case ffi::BF16: fill((Bf16*)keys->untyped_data(), (Bf16*)values->untyped_data()); break;
    case ffi::S8: fill((int8_t*)keys->untyped_data(), (int8_t*)values->untyped_data()); break;
    default: return ffi::Error::InvalidArgument("causal: the cache must be float32, bfloat16 or int8");
  }
  const int64_t cuts = std::max<int64_t>(1, std::min<int64_t>(8, length / 256));
  spread(pool, rows * heads * cuts, [&](int64_t i) {
    const int64_t row = i / cuts / heads, head = i / cuts % heads, cut = cuts - 1 - i % cuts;  // the longest first
    const int64_t group = head / (heads / groups);
    const float* begin = from + row * length * stride;
    Causal one{begin + head * width,
               cosines.typed_data() + row * angles,
               sines.typed_data() + row * angles,
               &turned[(row * groups + group) * length * width],
               begin + (heads + groups + group) * width,
               out->typed_data() + (row * length * heads + head) * width,
               width,
               stride,
               heads * width};
    const int64_t first = length * cut / cuts, last = length * (cut + 1) / cuts;
#if defined(GOT_TILES)
    if (rounded && has_tiles()) return one.run<InTiles>(first, last);
#endif
#if defined(GOT_PAIRS)
    if (rounded && has_pairs()) return one.run<InVectors>(first, last);
#endif
    one.run<Floats>(first, last);
  });
  return ffi::Error::Success();
}

// --------------------------------------------------------------------------------------- attend and its gradients

// One row of a batch, one head of keys and values, and the heads of queries that look at it; forward and backward.
// Query i looks at the keys from first[i] to last[i], or at all of them, plus bias_h[i, key / side] and
// bias_w[i, key % side] when `side` is not 0. Scores exist in blocks of kRows queries and kKeys keys.
struct Attend {
  const float *q, *k, *v;
  const int32_t *first, *last;  // null: every key
  const float *bias_h, *bias_w;
  int64_t length, keys, heads, width, side;  // `heads` look at these keys
  int64_t q_stride, k_stride, bias_stride;   // floats from a token to the next

  static constexpr int64_t kRows = 60, kKeys = 256, kStride = kKeys + 16;

  // Rows of a block and the keys that any of them looks at, from a whole tile on.
  struct Block {
    int64_t row, rows, begin, end;
  };
  Block block(int64_t row) const {
    Block b{row, std::min(kRows, length - row), 0, keys};
    if (first) {
      b.begin = *std::min_element(first + row, first + row + b.rows) / kWide * kWide;
      b.end = std::min<int64_t>(keys, *std::max_element(last + row, last + row + b.rows) + 1);
    }
    return b;
  }
  // Scores of a block's queries for `count` keys from `start` on; what a query may not see, and the rest of the last
  // tile, is minus infinity.
  template <typename Way>
  void score(const Block& b, int64_t head, int64_t start, int64_t count, const typename Way::Number* rows,
             const typename Way::Number* turned, float* scores) const {
    const float none = -std::numeric_limits<float>::infinity();
    const int64_t tiles = whole(count, kWide);
    for (int64_t i = 0; i < b.rows; ++i) {
      float* s = scores + i * kStride;
      if (side) {
        const int64_t at = (b.row + i) * bias_stride + head * side;
        for (int64_t key = start; key < start + count;) {
          const int64_t y = key / side, x = key % side, end = std::min(start + count, (y + 1) * side);
          const float h = bias_h[at + y], *w = bias_w + at + x;
          for (; key < end; ++key) *s++ = h + *w++;
        }
        std::fill(s, scores + i * kStride + tiles, 0.0f);
      } else {
        std::fill(s, s + tiles, 0.0f);
      }
    }
    add_product<false>(rows, Way::inner(wide()), turned + start, padded(), scores, kStride, b.rows, tiles,
                       Way::inner(width));
    for (int64_t i = 0; i < b.rows; ++i) {
      float* s = scores + i * kStride;
      int64_t from = 0, to = count;
      if (first) {
        from = std::clamp<int64_t>(first[b.row + i] - start, 0, count);
        to = std::clamp<int64_t>(last[b.row + i] + 1 - start, from, count);
      }
      std::fill(s, s + from, none);
      std::fill(s + to, s + tiles, none);
    }
  }
  int64_t wide() const { return whole(width, kWide); }
  int64_t padded() const { return whole(keys, kWide) + kLanes; }  // no power of two: columns share no cache set

  // out [length, heads, width] (from a token to the next: q_stride), logs[head, length]: the logarithm of each sum
  template <typename Way>
  void forward(float* out, float* logs) const {
    using Number = typename Way::Number;
    const int64_t wide = this->wide(), padded = this->padded(), next = Way::inner(wide);
    const float none = -std::numeric_limits<float>::infinity();
    Lines<Number> turned(Way::inner(width) * padded), values(Way::inner(keys) * wide), rows(kRows * next),
        weights(kRows * kStride);
    Lines<float> scores(kRows * kStride), sums(kRows * wide), top(kRows), total(kRows);
    Way::second_turned(k, k_stride, keys, width, turned.data(), padded);
    Way::second(v, k_stride, keys, width, values.data(), wide);
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t row = 0; row < length; row += kRows) {
        const Block b = block(row);
        Way::rows_of(q + row * q_stride + head * width, q_stride, b.rows, width, rows.data(), next);
        std::fill(sums.begin(), sums.end(), 0.0f);
        std::fill(total.begin(), total.end(), 0.0f);
        std::fill(top.begin(), top.end(), none);
        for (int64_t start = b.begin; start < b.end; start += kKeys) {
          const int64_t count = std::min(kKeys, b.end - start);
          score<Way>(b, head, start, count, rows.data(), turned.data(), scores.data());
          for (int64_t i = 0; i < b.rows; ++i) {
            float* s = &scores[i * kStride];
            weigh(s, s, whole(count, kWide), &top[i], &total[i], &sums[i * wide], wide);
          }
          const Number* p = Way::block(scores.data(), kStride, b.rows, whole(count, kWide), weights);
          add_product<false>(p, Way::inner(kStride), &values[Way::inner(start) * wide], wide, sums.data(), wide,
                             b.rows, wide, Way::inner(count));
        }
        for (int64_t i = 0; i < b.rows; ++i) {
          float* to = out + (row + i) * q_stride + head * width;
          for (int64_t c = 0; c < width; ++c) to[c] = sums[i * wide + c] / total[i];
          logs[head * length + row + i] = top[i] + std::log(total[i]);
        }
      }
    }
  }

  // Gradients of everything, from those of `out`; dk and dv are sums over the heads.
  template <typename Way>
  void backward(const float* out, const float* logs, const float* dout, float* dq, float* dk, float* dv, float* dh,
                float* dw) const {
    using Number = typename Way::Number;
    const int64_t wide = this->wide(), padded = this->padded(), next = Way::inner(wide);
    Lines<Number> turned(Way::inner(width) * padded), turned_v(Way::inner(width) * padded),
        plain(Way::inner(keys) * wide), rows(kRows * next), grads(kRows * next), second_rows(Way::inner(kRows) * wide),
        second_grads(Way::inner(kRows) * wide), block_of(kRows * kStride);
    Lines<float> scores(kRows * kStride), changes(kRows * kStride), row_sums(kRows * wide), own(kRows),
        key_sums(keys * wide), value_sums(keys * wide);
    Way::second_turned(k, k_stride, keys, width, turned.data(), padded);
    Way::second_turned(v, k_stride, keys, width, turned_v.data(), padded);
    Way::second(k, k_stride, keys, width, plain.data(), wide);
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t row = 0; row < length; row += kRows) {
        const Block b = block(row);
        const int64_t place = row * q_stride + head * width;
        Way::rows_of(q + place, q_stride, b.rows, width, rows.data(), next);
        Way::rows_of(dout + place, q_stride, b.rows, width, grads.data(), next);
        Way::second(q + place, q_stride, b.rows, width, second_rows.data(), wide);
        Way::second(dout + place, q_stride, b.rows, width, second_grads.data(), wide);
        std::fill(row_sums.begin(), row_sums.end(), 0.0f);
        for (int64_t i = 0; i < b.rows; ++i) {
          own[i] = 0;
          for (int64_t c = 0; c < width; ++c) own[i] += dout[place + i * q_stride + c] * out[place + i * q_stride + c];
          if (side) {
            std::fill_n(dh + (row + i) * bias_stride + head * side, side, 0.0f);
            std::fill_n(dw + (row + i) * bias_stride + head * side, side, 0.0f);
          }
        }
        for (int64_t start = b.begin; start < b.end; start += kKeys) {
          const int64_t count = std::min(kKeys, b.end - start), tiles = whole(count, kWide);
          score<Way>(b, head, start, count, rows.data(), turned.data(), scores.data());
          std::fill(changes.begin(), changes.end(), 0.0f);
          add_product<false>(grads.data(), next, &turned_v[start], padded, changes.data(), kStride, b.rows, tiles,
                             Way::inner(width));
          for (int64_t i = 0; i < b.rows; ++i) {
            float *s = &scores[i * kStride], *d = &changes[i * kStride];
            const float log = logs[head * length + row + i];
            for (int64_t j = 0; j < tiles; j += kLanes) {
              const Vec x = load(s + j), e = exponential(x - log);
              const Vec p = x == -std::numeric_limits<float>::infinity() ? Vec{} : e;
              store(s + j, p);
              store(d + j, p * (load(d + j) - own[i]));
            }
            if (side) {
              const int64_t at = (row + i) * bias_stride + head * side;
              for (int64_t key = start; key < start + count;) {
                const int64_t y = key / side, x = key % side, end = std::min(start + count, (y + 1) * side);
                float total = 0, *to = dw + at + x;
                for (; key < end; ++key, ++d, ++to) {
                  total += *d;
                  *to += *d;
                }
                dh[at + y] += total;
              }
            }
          }
          const int64_t pairs = Way::inner(b.rows);
          const Number* p = Way::turned_block(scores.data(), kStride, b.rows, tiles, block_of);
          add_product<true>(p, kStride, second_grads.data(), wide, &value_sums[start * wide], wide, count, wide, pairs);
          p = Way::turned_block(changes.data(), kStride, b.rows, tiles, block_of);
          add_product<true>(p, kStride, second_rows.data(), wide, &key_sums[start * wide], wide, count, wide, pairs);
          p = Way::block(changes.data(), kStride, b.rows, tiles, block_of);
          add_product<false>(p, Way::inner(kStride), &plain[Way::inner(start) * wide], wide, row_sums.data(), wide,
                             b.rows, wide, Way::inner(count));
        }
        for (int64_t i = 0; i < b.rows; ++i) {
          std::memcpy(dq + place + i * q_stride, &row_sums[i * wide], width * sizeof(float));
        }
      }
    }
    for (int64_t key = 0; key < keys; ++key) {
      std::memcpy(dk + key * k_stride, &key_sums[key * wide], width * sizeof(float));
      std::memcpy(dv + key * k_stride, &value_sums[key * wide], width * sizeof(float));
    }
  }
};

// Runs task(Attend, floats up to its queries, to its keys, to its biases, to its logs) for every row and head of keys.
template <typename Task>
void attend_all(ffi::ThreadPool& pool, const ffi::Buffer<ffi::F32>& q, const ffi::Buffer<ffi::F32>& k,
                const ffi::Buffer<ffi::F32>& v, const ffi::Buffer<ffi::S32>& first, const ffi::Buffer<ffi::S32>& last,
                const ffi::Buffer<ffi::F32>& bias_h, const ffi::Buffer<ffi::F32>& bias_w, const Task& task) {
  auto shape = q.dimensions();
  const int64_t count = shape[0], length = shape[1], heads = shape[2], width = shape[3];
  const int64_t keys = k.dimensions()[1], groups = k.dimensions()[2], each = heads / groups;
  const bool spans = first.element_count() > 0, biased = bias_h.element_count() > 0;
  const int64_t side = biased ? bias_h.dimensions()[3] : 0;
  spread(pool, count * groups, [&](int64_t i) {
    const int64_t row = i / groups, group = i % groups;
    const int64_t queries = (row * length * heads + group * each) * width, at = (row * keys * groups + group) * width;
    const int64_t biases = (row * length * heads + group * each) * side;
    Attend one{q.typed_data() + queries,
               k.typed_data() + at,
               v.typed_data() + at,
               spans ? first.typed_data() + row * length : nullptr,
               spans ? last.typed_data() + row * length : nullptr,
               biased ? bias_h.typed_data() + biases : nullptr,
               biased ? bias_w.typed_data() + biases : nullptr,
               length,
               keys,
               each,
               width,
               side,
               heads * width,
               groups * width,
               heads * side};
    task(one, queries, at, biases, (row * heads + group * each) * length);
  });
}

// q [B, L, K, C], k and v [B, S, G, C], first and last [B, L] or none, biases [B, L, K, side] or none
// -> [B, L, K, C], logs [B, K, L]; `rounded`: factors may be rounded to bfloat16, where that is faster
ffi::Error attend(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> q, ffi::Buffer<ffi::F32> k, ffi::Buffer<ffi::F32> v,
                  ffi::Buffer<ffi::S32> first, ffi::Buffer<ffi::S32> last, ffi::Buffer<ffi::F32> bias_h,
                  ffi::Buffer<ffi::F32> bias_w, ffi::ResultBuffer<ffi::F32> out, ffi::ResultBuffer<ffi::F32> logs,
                  bool rounded) {
  attend_all(pool, q, k, v, first, last, bias_h, bias_w,
             [&](const Attend& one, int64_t queries, int64_t, int64_t, int64_t log) {
               auto run = [&](auto way) {
                 one.forward<decltype(way)>(out->typed_data() + queries, logs->typed_data() + log);
               };
#if defined(GOT_PAIRS)
               if (rounded && has_pairs()) return run(Pairs{});
#endif
               run(Floats{});
             });
  return ffi::Error::Success();
}

ffi::Error attend_back(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> q, ffi::Buffer<ffi::F32> k, ffi::Buffer<ffi::F32> v,
                       ffi::Buffer<ffi::S32> first, ffi::Buffer<ffi::S32> last, ffi::Buffer<ffi::F32> bias_h,
                       ffi::Buffer<ffi::F32> bias_w, ffi::Buffer<ffi::F32> out, ffi::Buffer<ffi::F32> logs,
                       ffi::Buffer<ffi::F32> dout, ffi::ResultBuffer<ffi::F32> dq, ffi::ResultBuffer<ffi::F32> dk,
                       ffi::ResultBuffer<ffi::F32> dv, ffi::ResultBuffer<ffi::F32> dh,
                       ffi::ResultBuffer<ffi::F32> dw, bool rounded) {
  attend_all(pool, q, k, v, first, last, bias_h, bias_w,
             [&](const Attend& one, int64_t queries, int64_t keys, int64_t biases, int64_t log) {
               auto run = [&](auto way) {
                 one.backward<decltype(way)>(out.typed_data() + queries, logs.typed_data() + log,
                                             dout.typed_data() + queries, dq->typed_data() + queries,
                                             dk->typed_data() + keys, dv->typed_data() + keys,
                                             dh->typed_data() + biases, dw->typed_data() + biases);
               };
#if defined(GOT_PAIRS)
               if (rounded && has_pairs()) return run(Pairs{});
#endif
               run(Floats{});
             });
  return ffi::Error::Success();
}

extern "C" int got_rounds() { return has_tiles() || has_pairs(); }

XLA_FFI_DEFINE_HANDLER_SYMBOL(got_linear, linear,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<float>("eps")
                                  .Attr<bool>("gated"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(got_rows, rows_of,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(got_decode_step, decode_step,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(got_square, square,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<bool>("rounded"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(got_causal, causal,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<bool>("rounded"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(got_attend, attend,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<bool>("rounded"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(got_attend_back, attend_back,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<bool>("rounded"));
