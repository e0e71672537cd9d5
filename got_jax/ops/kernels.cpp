// The products that XLA's CPU back end is slow at, as XLA FFI calls (see kernels.py, which compiles this file):
//   linear        few rows times a matrix that is kept in float32, bfloat16 or int8: each weight is read once
//   widen         such a matrix in float32, for many rows
//   decode_step   one query a row against the KV cache, which is written in place
//   square        self-attention of a square of cells with decomposed relative positions, without a score matrix
//   causal        self-attention of a prompt, likewise
// All arithmetic is float32. Vectors are the compiler's, of the width of the machine that compiles.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

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
  HalfVec h;
  std::memcpy(&h, p, sizeof(h));
  return bits<Vec>(__builtin_convertvector(h, IntVec) << 16);
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
inline Vec all(float x) { return x - Vec{}; }
inline float sum(Vec v) {
  typedef float Four __attribute__((vector_size(16)));
  Four parts[kLanes / 4];
  std::memcpy(parts, &v, sizeof(v));
  for (int i = 1; i < kLanes / 4; ++i) parts[0] += parts[i];
  return (parts[0][0] + parts[0][1]) + (parts[0][2] + parts[0][3]);
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

// ---------------------------------------------------------------------------------------------------------- linear

// `Rows` rows of x times `Outs` rows of w.
template <int Rows, int Outs, typename W>
inline void dots(const float* x, const W* w, const float* scale, float* y, int64_t in, int64_t out) {
  Vec sums[Rows][Outs] = {};
  int64_t k = 0;
  for (; k + kLanes <= in; k += kLanes) {
    if (k % int64_t(64 / sizeof(W)) == 0) {  // the lines of the rows that come next: short rows outrun the hardware
      for (int n = 0; n < Outs; ++n) __builtin_prefetch(w + (n + Outs) * in + k);
    }
    Vec weights[Outs];
    for (int n = 0; n < Outs; ++n) weights[n] = load(w + n * in + k);
    for (int m = 0; m < Rows; ++m) {
      Vec values = load(x + m * in + k);
      for (int n = 0; n < Outs; ++n) sums[m][n] += values * weights[n];
    }
  }
  for (int m = 0; m < Rows; ++m) {
    for (int n = 0; n < Outs; ++n) {
      float s = sum(sums[m][n]);
      for (int64_t rest = k; rest < in; ++rest) s += x[m * in + rest] * widen(w[n * in + rest]);
      y[m * out + n] = scale ? s * scale[n] : s;
    }
  }
}

template <int Outs, typename W>
inline void dots_of_rows(const float* x, const W* w, const float* scale, float* y, int64_t rows, int64_t in,
                         int64_t out) {
  int64_t m = 0;
  for (; m + 4 <= rows; m += 4) dots<4, Outs>(x + m * in, w, scale, y + m * out, in, out);
  switch (rows - m) {
    case 3: dots<3, Outs>(x + m * in, w, scale, y + m * out, in, out); break;
    case 2: dots<2, Outs>(x + m * in, w, scale, y + m * out, in, out); break;
    case 1: dots<1, Outs>(x + m * in, w, scale, y + m * out, in, out); break;
  }
}

// y[rows, out] = x[rows, in] . w[out, in], times scale[out] when there is one.
template <typename W>
void linear_of(ffi::ThreadPool& pool, const float* x, const W* w, const float* scale, float* y, int64_t rows,
               int64_t in, int64_t out) {
  constexpr int kOuts = 3;
  const int64_t block = std::max<int64_t>(6, std::min<int64_t>(510, out / (4 * pool.num_threads()) / 6 * 6));
  spread(pool, (out + block - 1) / block, [&](int64_t i) {
    int64_t n = i * block, end = std::min(out, n + block);
    auto scales = [&] { return scale ? scale + n : nullptr; };
    if (rows == 1) {
      for (; n + 6 <= end; n += 6) dots<1, 6>(x, w + n * in, scales(), y + n, in, out);
    }
    for (; n + kOuts <= end; n += kOuts) dots_of_rows<kOuts>(x, w + n * in, scales(), y + n, rows, in, out);
    for (; n < end; ++n) dots_of_rows<1>(x, w + n * in, scales(), y + n, rows, in, out);
  });
}

ffi::Error linear(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x, ffi::AnyBuffer w, ffi::RemainingArgs more,
                  ffi::ResultBuffer<ffi::F32> y) {
  const int64_t in = x.dimensions().back(), out = w.dimensions()[0];
  const int64_t rows = x.element_count() / std::max<int64_t>(in, 1);
  const float* scale = nullptr;
  if (more.size() > 0) scale = more.get<ffi::Buffer<ffi::F32>>(0).value().typed_data();
  const float* from = x.typed_data();
  float* to = y->typed_data();
  switch (w.element_type()) {
    case ffi::F32: linear_of(pool, from, (const float*)w.untyped_data(), scale, to, rows, in, out); break;
    case ffi::BF16: linear_of(pool, from, (const Bf16*)w.untyped_data(), scale, to, rows, in, out); break;
    case ffi::S8: linear_of(pool, from, (const int8_t*)w.untyped_data(), scale, to, rows, in, out); break;
    default: return ffi::Error::InvalidArgument("linear: weights must be float32, bfloat16 or int8");
  }
  return ffi::Error::Success();
}

// The weights of w[out, in] as floats, for XLA's product of many rows.
template <typename W>
void widen_of(ffi::ThreadPool& pool, const W* w, const float* scale, float* to, int64_t in, int64_t out) {
  const int64_t block = std::max<int64_t>(1, (1 << 16) / std::max<int64_t>(in, 1));
  spread(pool, (out + block - 1) / block, [&](int64_t i) {
    for (int64_t n = i * block; n < std::min(out, (i + 1) * block); ++n) {
      const float times = scale ? scale[n] : 1.0f;
      int64_t k = 0;
      for (; k + kLanes <= in; k += kLanes) store(to + n * in + k, load(w + n * in + k) * times);
      for (; k < in; ++k) to[n * in + k] = widen(w[n * in + k]) * times;
    }
  });
}

ffi::Error widen_matrix(ffi::ThreadPool pool, ffi::AnyBuffer w, ffi::RemainingArgs more,
                        ffi::ResultBuffer<ffi::F32> to) {
  const int64_t in = w.dimensions()[1], out = w.dimensions()[0];
  const float* scale = nullptr;
  if (more.size() > 0) scale = more.get<ffi::Buffer<ffi::F32>>(0).value().typed_data();
  switch (w.element_type()) {
    case ffi::BF16: widen_of(pool, (const Bf16*)w.untyped_data(), scale, to->typed_data(), in, out); break;
    case ffi::S8: widen_of(pool, (const int8_t*)w.untyped_data(), scale, to->typed_data(), in, out); break;
    default: return ffi::Error::InvalidArgument("widen: weights must be bfloat16 or int8");
  }
  return ffi::Error::Success();
}

// ----------------------------------------------------------------------------------------------------- decode_step

// One row and one group of heads: its new key and value go into slot `place`, then its queries look at 0 .. place.
template <typename T>
void look(const float* q, const float* k, const float* v, T* keys, T* values, float* out, int64_t heads, int64_t width,
          int64_t place, int64_t slots) {
  for (int64_t c = 0; c < width && place < slots; ++c) {
    narrow(k[c], keys + place * width + c);
    narrow(v[c], values + place * width + c);
  }
  const int64_t seen = std::min(place + 1, slots), padded = (seen + kLanes - 1) / kLanes * kLanes;
  static thread_local std::vector<float> scores;
  scores.resize(padded);
  for (int64_t head = 0; head < heads; ++head, q += width, out += width) {
    float top = -std::numeric_limits<float>::infinity();
    int64_t s = 0;
    for (; s + 4 <= seen; s += 4) dots<1, 4>(q, keys + s * width, nullptr, &scores[s], width, 0);
    for (; s < seen; ++s) dots<1, 1>(q, keys + s * width, nullptr, &scores[s], width, 0);
    for (s = 0; s < seen; ++s) top = std::max(top, scores[s]);
    for (int64_t s = seen; s < padded; ++s) scores[s] = -std::numeric_limits<float>::infinity();
    Vec total = {};
    for (int64_t s = 0; s < padded; s += kLanes) {
      Vec e = exponential(load(&scores[s]) - top);
      store(&scores[s], e);
      if (s + kLanes <= seen) total += e;
    }
    float weight = sum(total);
    for (int64_t s = seen / kLanes * kLanes; s < seen; ++s) weight += scores[s];
    int64_t c = 0;
    for (; c + 4 * kLanes <= width; c += 4 * kLanes) {
      Vec sums[4] = {};
      for (int64_t s = 0; s < seen; ++s) {
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

// q [B, K, C] (scaled), k and v [B, G, C], positions [B], caches [B, G, S, C] -> out [B, K, C] and the caches.
ffi::Error decode_step(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> q, ffi::Buffer<ffi::F32> k,
                       ffi::Buffer<ffi::F32> v, ffi::Buffer<ffi::S32> positions, ffi::AnyBuffer, ffi::AnyBuffer,
                       ffi::ResultBuffer<ffi::F32> out, ffi::Result<ffi::AnyBuffer> keys,
                       ffi::Result<ffi::AnyBuffer> values) {
  auto shape = keys->dimensions();
  const int64_t rows = shape[0], groups = shape[1], slots = shape[2], width = shape[3];
  const int64_t heads = q.dimensions()[1] / groups;
  auto run = [&](auto* key, auto* value) {
    spread(pool, rows * groups, [&](int64_t i) {
      look(q.typed_data() + i * heads * width, k.typed_data() + i * width, v.typed_data() + i * width,
           key + i * slots * width, value + i * slots * width, out->typed_data() + i * heads * width, heads, width,
           positions.typed_data()[i / groups], slots);
    });
  };
  switch (keys->element_type()) {
    case ffi::F32: run((float*)keys->untyped_data(), (float*)values->untyped_data()); break;
    case ffi::BF16: run((Bf16*)keys->untyped_data(), (Bf16*)values->untyped_data()); break;
    default: return ffi::Error::InvalidArgument("decode_step: the cache must be float32 or bfloat16");
  }
  return ffi::Error::Success();
}

// ----------------------------------------------------------------------------------------------- square and causal

// c[Rows, kWide] += a[Rows, inner] . b[inner, kWide]
template <int Rows>
inline void tile(const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc, int64_t inner) {
  Vec sums[Rows][2];
  for (int m = 0; m < Rows; ++m) {
    for (int i = 0; i < 2; ++i) sums[m][i] = load(c + m * ldc + i * kLanes);
  }
  for (int64_t k = 0; k < inner; ++k) {
    Vec left = load(b + k * ldb), right = load(b + k * ldb + kLanes);
    for (int m = 0; m < Rows; ++m) {
      float x = a[m * lda + k];
      sums[m][0] += x * left;
      sums[m][1] += x * right;
    }
  }
  for (int m = 0; m < Rows; ++m) {
    for (int i = 0; i < 2; ++i) store(c + m * ldc + i * kLanes, sums[m][i]);
  }
}

template <int Rows>
void last_rows(int64_t rows, const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc,
               int64_t inner) {
  if constexpr (Rows > 0) {
    if (rows == Rows) {
      tile<Rows>(a, lda, b, ldb, c, ldc, inner);
    } else {
      last_rows<Rows - 1>(rows, a, lda, b, ldb, c, ldc, inner);
    }
  }
}

// c[rows, columns] += a . b, where columns is a multiple of kWide.
void product(const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc, int64_t rows,
             int64_t columns, int64_t inner) {
  for (int64_t n = 0; n < columns; n += kWide) {
    int64_t m = 0;
    for (; m + kTall <= rows; m += kTall) tile<kTall>(a + m * lda, lda, b + n, ldb, c + m * ldc + n, ldc, inner);
    last_rows<kTall - 1>(rows - m, a + m * lda, lda, b + n, ldb, c + m * ldc + n, ldc, inner);
  }
}

inline int64_t whole_tiles(int64_t columns) { return (columns + kWide - 1) / kWide * kWide; }

// Rows of `from` become columns of `to`, which is `stride` wide.
void transpose(const float* from, int64_t row_stride, int64_t rows, int64_t width, float* to, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < width; ++c) to[c * stride + r] = from[r * row_stride + c];
  }
}

// Scores of a block become weights exp(score - top); what was summed under an earlier top is scaled to the new one.
void weigh(float* s, int64_t count, float* top, float* total, float* sums, int64_t wide) {
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
    store(s + j, e);
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

  void run(int64_t first, int64_t last) const {
    const int64_t cells = side * side, tables = 2 * side - 1, wide = whole_tiles(width), tall = whole_tiles(tables);
    const int64_t grid_rows = std::max<int64_t>(1, std::min<int64_t>(side, 256 / side));  // keys of a block, in rows
    const int64_t keys = grid_rows * side, padded = whole_tiles(keys), blocks = (side + grid_rows - 1) / grid_rows;
    const float none = -std::numeric_limits<float>::infinity(), scale = 1.0f / std::sqrt(float(width));
    std::vector<float> k(blocks * width * padded), v(cells * wide), th(width * tall), tw(width * tall), q(side * width),
        bias_h(side * tall), bias_w(side * tall), scores(side * padded), sums(side * wide), top(side), total(side);
    for (int64_t b = 0; b < blocks; ++b) {
      int64_t start = b * keys, count = std::min(keys, cells - start);
      transpose(qkv + part + start * stride, stride, count, width, &k[b * width * padded], padded);
    }
    for (int64_t s = 0; s < cells; ++s) std::memcpy(&v[s * wide], qkv + 2 * part + s * stride, width * sizeof(float));
    transpose(table_h, width, tables, width, th.data(), tall);
    transpose(table_w, width, tables, width, tw.data(), tall);
    for (int64_t row = first; row < last; ++row) {
      for (int64_t i = 0; i < side; ++i) {
        std::memcpy(&q[i * width], qkv + (row * side + i) * stride, width * sizeof(float));
      }
      std::fill(bias_h.begin(), bias_h.end(), 0.0f);
      std::fill(bias_w.begin(), bias_w.end(), 0.0f);
      product(q.data(), width, th.data(), tall, bias_h.data(), tall, side, tall, width);
      product(q.data(), width, tw.data(), tall, bias_w.data(), tall, side, tall, width);
      for (float& x : q) x *= scale;
      std::fill(sums.begin(), sums.end(), 0.0f);
      std::fill(total.begin(), total.end(), 0.0f);
      std::fill(top.begin(), top.end(), none);
      for (int64_t b = 0; b < blocks; ++b) {
        const int64_t begin = b * grid_rows, end = std::min(side, begin + grid_rows), count = (end - begin) * side;
        for (int64_t i = 0; i < side; ++i) {
          float* s = &scores[i * padded];
          for (int64_t h = begin; h < end; ++h) {  // entry i - j + side - 1 of a table: query i, key j
            const float bias = bias_h[i * tall + row - h + side - 1], *w = &bias_w[i * tall + i + side - 1];
            for (int64_t j = 0; j < side; ++j) *s++ = bias + w[-j];
          }
          std::fill(s, &scores[i * padded] + padded, none);
        }
        product(q.data(), width, &k[b * width * padded], padded, scores.data(), padded, side, padded, width);
        for (int64_t i = 0; i < side; ++i) weigh(&scores[i * padded], padded, &top[i], &total[i], &sums[i * wide], wide);
        product(scores.data(), padded, &v[begin * side * wide], wide, sums.data(), wide, side, wide, count);
      }
      for (int64_t i = 0; i < side; ++i) {
        float* to = out + (row * side + i) * out_stride;
        for (int64_t c = 0; c < width; ++c) to[c] = sums[i * wide + c] / total[i];
      }
    }
  }
};

// qkv [B, side * side, 3, K, C], tables [2 * side - 1, C] -> [B, side * side, K, C]
ffi::Error square(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> qkv, ffi::Buffer<ffi::F32> table_h,
                  ffi::Buffer<ffi::F32> table_w, ffi::ResultBuffer<ffi::F32> out) {
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
    one.run(side * cut / cuts, side * (cut + 1) / cuts);
  });
  return ffi::Error::Success();
}

// Rows first .. last - 1 of one head: each looks at the keys up to its own place.
struct Causal {
  const float *q, *k, *v;
  float* out;
  int64_t width, q_stride, k_stride;  // floats from a token to the next; `out` lies as q does

  void run(int64_t first, int64_t last) const {
    constexpr int64_t kRows = 64, kKeys = 256;
    const int64_t wide = whole_tiles(width), blocks = (last + kKeys - 1) / kKeys;
    const float none = -std::numeric_limits<float>::infinity();
    std::vector<float> keys(blocks * width * kKeys), values(last * wide), rows(kRows * width), scores(kRows * kKeys),
        sums(kRows * wide), top(kRows), total(kRows);
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t start = b * kKeys;
      transpose(k + start * k_stride, k_stride, std::min(kKeys, last - start), width, &keys[start * width], kKeys);
    }
    for (int64_t s = 0; s < last; ++s) std::memcpy(&values[s * wide], v + s * k_stride, width * sizeof(float));
    for (int64_t row = first; row < last; row += kRows) {
      const int64_t count = std::min(kRows, last - row);
      for (int64_t i = 0; i < count; ++i) std::memcpy(&rows[i * width], q + (row + i) * q_stride, width * sizeof(float));
      std::fill(sums.begin(), sums.end(), 0.0f);
      std::fill(total.begin(), total.end(), 0.0f);
      std::fill(top.begin(), top.end(), none);
      for (int64_t start = 0; start < row + count; start += kKeys) {
        const int64_t seen = std::min(kKeys, row + count - start), padded = whole_tiles(seen);
        std::fill(scores.begin(), scores.end(), 0.0f);
        product(rows.data(), width, &keys[start * width], kKeys, scores.data(), kKeys, count, padded, width);
        for (int64_t i = 0; i < count; ++i) {
          const int64_t own = std::max<int64_t>(0, std::min(padded, row + i + 1 - start));
          std::fill(&scores[i * kKeys] + own, &scores[i * kKeys] + padded, none);
          if (own > 0) {
            weigh(&scores[i * kKeys], padded, &top[i], &total[i], &sums[i * wide], wide);
          } else {
            std::fill(&scores[i * kKeys], &scores[i * kKeys] + padded, 0.0f);
          }
        }
        product(scores.data(), kKeys, &values[start * wide], wide, sums.data(), wide, count, wide, seen);
      }
      for (int64_t i = 0; i < count; ++i) {
        for (int64_t c = 0; c < width; ++c) out[(row + i) * q_stride + c] = sums[i * wide + c] / total[i];
      }
    }
  }
};

// q [B, L, K, C] (scaled), k and v [B, L, G, C] -> [B, L, K, C]
ffi::Error causal(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> q, ffi::Buffer<ffi::F32> k, ffi::Buffer<ffi::F32> v,
                  ffi::ResultBuffer<ffi::F32> out) {
  auto shape = q.dimensions();
  const int64_t length = shape[1], heads = shape[2], width = shape[3], groups = k.dimensions()[2];
  const int64_t cuts = std::max<int64_t>(1, std::min<int64_t>(8, length / 256));
  spread(pool, shape[0] * heads * cuts, [&](int64_t i) {
    const int64_t b = i / cuts / heads, head = i / cuts % heads, cut = cuts - 1 - i % cuts;  // the longest first
    const int64_t from = (b * length * heads + head) * width;
    const int64_t group = (b * length * groups + head / (heads / groups)) * width;
    Causal one{q.typed_data() + from, k.typed_data() + group,  v.typed_data() + group, out->typed_data() + from,
               width,                 heads * width, groups * width};
    one.run(length * cut / cuts, length * (cut + 1) / cuts);
  });
  return ffi::Error::Success();
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(got_linear, linear,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::AnyBuffer>()
                                  .RemainingArgs()
                                  .Ret<ffi::Buffer<ffi::F32>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(got_widen, widen_matrix,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .RemainingArgs()
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
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(got_square, square,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(got_causal, causal,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());
