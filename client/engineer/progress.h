#pragma once

#include <chrono>
#include <iostream>
#include <string>

#include "attestation/api/messages.h"

namespace sallyport::client::engineer {

// quorum_text tells how far a case has come: "us-oncall 1 of 2 alice · privacy 0 of 1".
std::string quorum_text(const api::CaseView& view);
// live_quorum_text is the same for a line that is written again each second:
// "●○○  alice (us-oncall) 40 s ago · us-oncall: 1 more · privacy: 1 more".
std::string live_quorum_text(const api::CaseView& view, UnixMillis now);

// Progress is what a command waits for, on stderr. On a terminal it is one line, with the time it has taken
// so far, written again at every call; elsewhere a line is printed when `text` is another than before.
class Progress {
 public:
  explicit Progress(std::ostream& out, bool live, std::size_t columns = 0);
  Progress();  // stderr, as wide as its terminal
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  bool live() const { return live_; }
  void show(const std::string& text, const std::string& live_text);
  void show(const std::string& text) { show(text, text); }
  void finish();  // ends the line, before others print

 private:
  std::ostream& out_;
  bool live_, open_ = false;
  std::size_t columns_;
  std::string shown_;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

// StaysOpen tells, when a waiting command is interrupted (^C, SIGTERM, SIGHUP), what becomes of its case; the
// program ends by that signal as it would have.
class StaysOpen {
 public:
  explicit StaysOpen(const CaseId& case_id);
  ~StaysOpen();
  StaysOpen(const StaysOpen&) = delete;
  StaysOpen& operator=(const StaysOpen&) = delete;
};

// take_up_text says how to go on with a case that stays open, and how to end it.
std::string take_up_text(const CaseId& case_id);

}  // namespace sallyport::client::engineer
