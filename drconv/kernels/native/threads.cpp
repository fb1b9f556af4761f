// Compiled without OpenMP: the one entry point needed is taken from the runtime that torch has loaded, so that there
// are never two pools of threads, whatever library the compiler would have linked.
#include "threads.h"

#include "drconv_native.h"

namespace {

drconv_parallel parallel_region = nullptr;
drconv_team_number team_number = nullptr, team_size = nullptr;

constexpr int64_t kMostThreads = 256;

// How many tasks of a thread's share are taken; a cache line of its own each.
struct alignas(64) Share {
  int64_t taken;
};

struct Team {
  int64_t count;
  void (*task)(void*, int64_t, int64_t);
  void* data;
  Share* shares;
};

// A thread keeps its number from call to call, and with it its scratch memory and its share of the tasks, neighbours of
// each other: what it wrote last is still in its own cache, and not in another's. Who is done early helps the others.
void work(void* given) {
  Team* team = static_cast<Team*>(given);
  const int64_t number = team_number(), members = team_size();
  if (team->count == members) {
    team->task(team->data, number, number);
    return;
  }
  for (int64_t i = 0; i < members; i++) {
    const int64_t owner = (number + i) % members;
    const int64_t first = team->count * owner / members, stop = team->count * (owner + 1) / members;
    for (;;) {
      const int64_t index = first + __atomic_fetch_add(&team->shares[owner].taken, 1, __ATOMIC_RELAXED);
      if (index >= stop) break;
      team->task(team->data, index, number);
    }
  }
}

}  // namespace

extern "C" void drconv_set_parallel(drconv_parallel parallel, drconv_team_number number, drconv_team_number size) {
  parallel_region = parallel;
  team_number = number;
  team_size = size;
}

void drconv_run_tasks(int64_t threads, int64_t count, void (*task)(void*, int64_t, int64_t), void* data) {
  if (threads > count) threads = count;
  if (threads > kMostThreads) threads = kMostThreads;
  if (threads <= 1 || !parallel_region) {
    for (int64_t index = 0; index < count; index++) task(data, index, 0);
    return;
  }
  Share shares[kMostThreads];
  for (int64_t i = 0; i < threads; i++) shares[i].taken = 0;
  Team team = {count, task, data, shares};
  parallel_region(work, &team, static_cast<unsigned>(threads), 0);
}
