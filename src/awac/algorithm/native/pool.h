// Threads that take the units of a job one after another.
#pragma once

#include <immintrin.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>

namespace awac {

// Takes numbers below 1.2e-38 for 0, on the thread that calls it; returns how it was before. The moments of units that
// no longer learn are such numbers, and some processors take a hundred times as long for each.
inline unsigned flush_subnormals() {
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040);
  return before;
}

class Pool {
 public:
  // The first call says how many threads there are.
  static Pool &get(int threads) {
    static Pool *pool = new Pool(threads);  // never destroyed: its threads may outlive main
    return *pool;
  }

  // Calls work(0) … work(units − 1), in any order and on any thread; returns when all are done.
  void run(int64_t units, const std::function<void(int64_t)> &work) {
    std::unique_lock<std::mutex> owner(busy_, std::try_to_lock);
    if (!owner || helpers_ == 0) {
      for (int64_t i = 0; i < units; ++i) work(i);
      return;
    }
    ticket_ = kClosed;  // a helper that still looks at the last job finds it gone
    work_ = &work;
    units_ = units;
    done_ = 0;
    const uint64_t job = job_ + 1;
    ticket_ = job << 32;
    job_ = job;
    if (sleepers_ > 0) {
      std::lock_guard<std::mutex> lock(mutex_);
      wake_.notify_all();
    }
    take();
    for (int spins = 0; done_ < units; ++spins) pause(spins);
  }

 private:
  static constexpr uint64_t kClosed = UINT32_MAX;

  explicit Pool(int threads) {
    try {
      for (; helpers_ < threads - 1; ++helpers_) std::thread([this] { serve(); }).detach();
    } catch (const std::system_error &) {  // the system gives no more: those there are do the work
    }
  }

  static void pause(int spins) {
    if (spins < 1000) {
      __builtin_ia32_pause();
    } else {
      std::this_thread::yield();  // more threads than processors: let the one that is waited for run
    }
  }

  // A ticket is job << 32 | next unit. Only one that is still on sale names a unit of the job that `work_` is.
  void take() {
    for (uint64_t ticket = ticket_; static_cast<int64_t>(ticket & UINT32_MAX) < units_;) {
      if (!ticket_.compare_exchange_weak(ticket, ticket + 1)) continue;
      (*work_)(ticket & UINT32_MAX);
      ++done_;
      ticket = ticket_;
    }
  }

  void serve() {
    flush_subnormals();
    for (uint64_t seen = 0;;) {
      // The next job of a step comes within microseconds: too soon to sleep.
      const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(200);
      while (job_ == seen && std::chrono::steady_clock::now() < until) __builtin_ia32_pause();
      if (job_ == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        ++sleepers_;
        wake_.wait(lock, [&] { return job_ != seen; });
        --sleepers_;
      }
      seen = job_;
      take();
    }
  }

  int helpers_ = 0;
  std::mutex busy_, mutex_;
  std::condition_variable wake_;
  std::atomic<const std::function<void(int64_t)> *> work_{nullptr};
  std::atomic<int64_t> units_{0}, done_{0};
  std::atomic<uint64_t> job_{0}, ticket_{kClosed};
  std::atomic<int> sleepers_{0};
};

}  // namespace awac
