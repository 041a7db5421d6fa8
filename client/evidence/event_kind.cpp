#include "client/evidence/event_kind.h"

#include <algorithm>

namespace sallyport::client::evidence_tools {
namespace {

// split_at gives what is before a place, and what comes after it and `skipped` characters more.
EventKind split_at(std::string_view what, std::size_t at, std::size_t skipped) {
  if (at == what.npos) return {std::string{what}, {}};
  return {std::string{what.substr(0, at)}, std::string{what.substr(at + skipped)}};
}

// A text that was measured, in quotes. Boot loaders put a word before it: "grub_cmd: …", Red Hat's without a
// colon.
EventKind of_text(std::string_view what) {
  const std::string_view text =
      what.ends_with('"') && what.size() > 1 ? what.substr(1, what.size() - 2) : what.substr(1);
  const std::size_t word = text.find_first_of(": ");
  if (word != text.npos && text.substr(word).starts_with(": ")) return split_at(text, word, 2);
  for (const std::string_view grub : {"grub_cmd", "grub_kernel_cmdline", "kernel_cmdline"})
    if (text.substr(0, word) == grub) return split_at(text, word, 1);
  return {std::string{what}, {}};
}

}  // namespace

EventKind kind_of(std::string_view what) {
  if (what.starts_with('"')) return of_text(what);
  for (const std::string_view image : {"application ", "boot driver ", "run-time driver "})
    if (what.starts_with(image))
      return split_at(what, what.ends_with(" bytes") ? what.rfind(", ") : what.npos, 2);
  for (const std::string_view named : {"variable ", "authority ", "tag "})
    if (what.starts_with(named)) return split_at(what, what.find(": "), 2);
  if (what.starts_with("firmware blob ")) return split_at(what, what.find(" at 0x"), 1);
  for (const std::string_view one : {"CRTM version", "partition table", "tables of the firmware"})
    if (what.starts_with(one) && what.size() > one.size())
      return split_at(what, one.size(), what[one.size()] == ',' ? 2 : 1);
  const bool size = !what.empty() && what.front() >= '0' && what.front() <= '9' &&
                    (what.ends_with(" bytes") || what.ends_with(" byte"));
  if (size) return {"event", std::string{what}};
  return {std::string{what}, {}};
}

}  // namespace sallyport::client::evidence_tools
