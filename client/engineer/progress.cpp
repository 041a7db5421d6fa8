#include "client/engineer/progress.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "client/terminal/render.h"

namespace sallyport::client::engineer {
namespace {

constexpr std::string_view kLabel = "waiting   ", kClearToEnd = "\x1b[K", kDot = " · ";
constexpr std::size_t kDefaultColumns = 80;

std::size_t columns_of_stderr() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col != 0 ? size.ws_col : kDefaultColumns;
}

bool begins_point(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
}
std::size_t points_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), begins_point));
}
// fit gives text as exactly `width` code points, cut or padded.
std::string fit(std::string_view text, std::size_t width) {
  const std::size_t points = points_of(text);
  if (points <= width) return std::string{text} + std::string(width - points, ' ');
  std::size_t at = 0;
  for (std::size_t seen = 0; at < text.size(); ++at)
    if (begins_point(text[at]) && seen++ == width - 1) break;
  return std::string{text.substr(0, at)} + "…";
}

std::string elapsed_text(std::chrono::steady_clock::duration elapsed) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(elapsed).count();
  char text[32];
  std::snprintf(text, sizeof text, "%02lld:%02lld", static_cast<long long>(seconds / 60),
                static_cast<long long>(seconds % 60));
  return text;
}

// What a handler may touch. One at a time: StaysOpen is made by the thread of the command.
char farewell[512];
std::size_t farewell_size = 0;
constexpr int kEnding[] = {SIGINT, SIGTERM, SIGHUP};

void say_farewell(int number) {
  [[maybe_unused]] const ssize_t said = write(STDERR_FILENO, farewell, farewell_size);
  raise(number);  // SA_RESETHAND: it ends the program once this returns
}

}  // namespace

std::string quorum_text(const api::CaseView& view) {
  std::string line;
  for (const api::ClauseView& clause : view.quorum) {
    line += (line.empty() ? "" : std::string{kDot}) + printable(clause.group) + " " +
            std::to_string(clause.have) + " of " + std::to_string(clause.needed);
    for (const std::string& person : clause.people) line += " " + printable(person);
  }
  return line;
}

std::string live_quorum_text(const api::CaseView& view, UnixMillis now) {
  std::string dots, people, missing;
  for (const api::ClauseView& clause : view.quorum) {
    for (std::uint64_t i = 0; i < clause.needed && i < 16; ++i) dots += i < clause.have ? "●" : "○";
    for (const std::string& person : clause.people) {
      people += (people.empty() ? "" : std::string{kDot}) + printable(person) + " (" +
                printable(clause.group) + ")";
      const auto approval = std::find_if(view.approvals.begin(), view.approvals.end(),
                                         [&](const auto& one) { return one.approver == person; });
      if (approval != view.approvals.end()) people += " " + relative(approval->time, now);
    }
    if (clause.have < clause.needed)
      missing += (missing.empty() ? "" : std::string{kDot}) + printable(clause.group) + ": " +
                 std::to_string(clause.needed - clause.have) + " more";
  }
  return dots + "  " + people + (people.empty() || missing.empty() ? "" : std::string{kDot}) + missing;
}

Progress::Progress(std::ostream& out, bool live, std::size_t columns)
    : out_(out), live_(live), columns_(columns == 0 ? kDefaultColumns : columns) {}
Progress::Progress() : Progress(std::cerr, stderr_is_terminal(), columns_of_stderr()) {}

void Progress::show(const std::string& text, const std::string& live_text) {
  if (!live_) {
    if (text != shown_) out_ << kLabel << text << std::endl;
    shown_ = text;
    return;
  }
  const std::string elapsed = elapsed_text(std::chrono::steady_clock::now() - began_);
  const std::size_t taken = kLabel.size() + 1 + elapsed.size() + 1;  // the last column stays empty: no wrap
  const std::size_t width = columns_ > taken + 1 ? columns_ - taken : 1;
  out_ << '\r' << kLabel << fit(live_text, width) << ' ' << elapsed << kClearToEnd << std::flush;
  open_ = true;
}

void Progress::finish() {
  if (open_) out_ << std::endl;
  open_ = false;
}

std::string take_up_text(const CaseId& case_id) {
  const std::string name = short_case(case_id);
  return "  The case stays open. Go on with it:  sallyport ssh --case " + name +
         "\n  or end it:  sallyport request drop " + name;
}

StaysOpen::StaysOpen(const CaseId& case_id) {
  const std::string text = "\n" + take_up_text(case_id) + "\n";
  farewell_size = std::min(text.size(), sizeof farewell);
  std::memcpy(farewell, text.data(), farewell_size);
  struct sigaction action {};
  action.sa_handler = say_farewell;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int number : kEnding) {
    struct sigaction before {};
    if (sigaction(number, nullptr, &before) == 0 && before.sa_handler == SIG_DFL)
      sigaction(number, &action, nullptr);
  }
}

StaysOpen::~StaysOpen() {
  for (const int number : kEnding) {
    struct sigaction now {};
    if (sigaction(number, nullptr, &now) == 0 && now.sa_handler == say_farewell) signal(number, SIG_DFL);
  }
}

}  // namespace sallyport::client::engineer
