#include "attestation/base/persistent_map.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace sallyport {
namespace {

using Map = PersistentMap<int, std::string>;

std::map<int, std::string> all_of(const Map& map) {
  std::map<int, std::string> out;
  int last = -1;
  map.for_each([&](int key, const std::string& value) {
    EXPECT_LT(last, key);
    last = key;
    out.emplace(key, value);
  });
  EXPECT_EQ(out.size(), map.size());
  return out;
}

TEST(PersistentMap, HoldsWhatAnOrdinaryMapHolds) {
  std::mt19937 random{1};
  Map map;
  std::map<int, std::string> expected;
  std::vector<std::pair<Map, std::map<int, std::string>>> copies;
  for (int step = 0; step < 4000; ++step) {
    const int key = static_cast<int>(random() % 300);
    if (random() % 5 < 3) {
      map.edit(key) += static_cast<char>('a' + step % 26);
      expected[key] += static_cast<char>('a' + step % 26);
    } else {
      map.erase(key);
      expected.erase(key);
    }
    EXPECT_EQ(map.contains(key), expected.contains(key));
    EXPECT_EQ(map.empty(), expected.empty());
    if (!expected.empty()) {
      EXPECT_EQ(map.first().first, expected.begin()->first);
    }
    if (step % 100 == 0) copies.emplace_back(map, expected);
  }
  EXPECT_EQ(all_of(map), expected);
  // What came after a copy did not show in it.
  for (const auto& [copy, then] : copies) EXPECT_EQ(all_of(copy), then);
}

TEST(PersistentMap, StaysFlatInWhateverOrderItGrowsAndShrinks) {
  Map up, down;
  for (int i = 0; i < 100'000; ++i) {
    up.edit(i);
    down.edit(100'000 - i);
  }
  for (int i = 0; i < 99'990; ++i) {  // would take a minute in a list
    up.erase(up.first().first);
    down.erase(100'000 - i);
  }
  EXPECT_EQ(up.size(), 10u);
  EXPECT_EQ(up.first().first, 99'990);
  EXPECT_EQ(down.size(), 10u);
  EXPECT_EQ(down.first().first, 1);
}

TEST(PersistentMap, ACopySharesWhatNeitherHasChanged) {
  Map one;
  for (int i = 0; i < 1000; ++i) one.edit(i) = "as it was";
  Map two = one;
  EXPECT_EQ(two.find(500), one.find(500));  // the very same
  two.edit(500) = "changed";
  two.erase(501);
  EXPECT_EQ(*one.find(500), "as it was");
  EXPECT_TRUE(one.contains(501));
  EXPECT_EQ(*two.find(500), "changed");
  int shared = 0;
  for (int i = 0; i < 1000; ++i) shared += one.find(i) == two.find(i) ? 1 : 0;
  EXPECT_GT(shared, 960);
  // Alone, it changes its nodes where they are.
  one = {};
  const std::string* const before = two.find(7);
  two.edit(7) = "again";
  EXPECT_EQ(two.find(7), before);
}

TEST(PersistentMap, CopiesMayBeChangedByThreads) {
  Map base;
  for (int i = 0; i < 500; ++i) base.edit(i) = "base";
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t, mine = base]() mutable {
      for (int i = 0; i < 500; ++i) {
        Map earlier = mine;
        mine.edit(i) = std::to_string(t);
        if (i % 3 == 0) mine.erase(i);
        EXPECT_EQ(*earlier.find(i), "base");
      }
    });
  for (int i = 0; i < 500; ++i) base.edit(i) = "changed";
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(*base.find(499), "changed");
}

}  // namespace
}  // namespace sallyport
