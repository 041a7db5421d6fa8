#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "client/terminal/command.h"

namespace sallyport::test {

struct Ran {
  int exit = 0;
  std::string out, err;
};

// run_tool is `sallyport` in this process, with the commands of these rooms only.
inline Ran run_tool(std::vector<std::string> words, const std::vector<std::vector<client::Command>>& rooms) {
  words.insert(words.begin(), "sallyport");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Ran ran;
  ran.exit = client::run_command_line(static_cast<int>(argv.size()), argv.data(), rooms);
  ran.out = testing::internal::GetCapturedStdout();
  ran.err = testing::internal::GetCapturedStderr();
  return ran;
}

}  // namespace sallyport::test
