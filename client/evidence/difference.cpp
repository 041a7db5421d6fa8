#include "client/evidence/difference.h"

#include <algorithm>
#include <map>
#include <set>

#include "attestation/base/hex.h"
#include "client/evidence/event_kind.h"
#include "client/evidence/inputs.h"

namespace sallyport::client::evidence_tools {
namespace {

using evidence::ExpectedEvent;
using evidence::Reference;

constexpr std::string_view kLists[] = {"PK", "KEK", "db", "dbx", "dbt", "dbr", "MokList", "MokListX"};

EventKind kind_of_event(const ExpectedEvent& event) {
  if (!event.what.empty()) return kind_of(event.what);
  if (!event.digests.empty()) return {"event", "sha256:" + to_hex(event.digests.front())};
  return {"text", event.pattern};
}

// called gives an event's kind as a person would call it: the file of an image without the way to it.
std::string called(const EventKind& kind) {
  std::string_view name = kind.name;
  if (name.starts_with("variable ")) name.remove_prefix(9);
  if (name == "CRTM version") return "firmware version";
  for (const std::string_view image : {"application ", "boot driver ", "run-time driver "})
    if (name.starts_with(image))
      if (const std::size_t file = name.rfind("/\\"); file != name.npos)
        return std::string{name.substr(file + 1)};
  return std::string{name};
}

bool is_image(const EventKind& kind) {
  return kind.name.starts_with("application ") || kind.name.starts_with("boot driver ") ||
         kind.name.starts_with("run-time driver ");
}

std::string changed_text(const ExpectedEvent& before, const ExpectedEvent& after) {
  const EventKind was = kind_of_event(before), is = kind_of_event(after);
  const std::string name = called(is);
  const bool same_words = was.value == is.value;
  const std::string from_to = was.value + " -> " + is.value;
  if (before.digests.empty() != after.digests.empty())
    return name + (after.digests.empty() ? ": a text now, where digests were: " + after.pattern
                                         : ": digests now, where a text was: " + before.pattern);
  if (before.digests.empty()) return name + ": " + before.pattern + " -> " + after.pattern;
  if (is_image(is)) return name + ": another image" + (same_words ? "" : " (" + from_to + ")");
  if (is.name.starts_with("variable ") && std::ranges::find(kLists, name) != std::end(kLists))
    return name + ": another list" + (same_words ? "" : " (" + from_to + ")");
  if (is.value == "a certificate" && same_words) return name + ": another certificate";
  if (same_words) return name + ": another content";
  return name + (name == "firmware version" ? " " : ": ") + from_to;
}

std::string whole_text(const ExpectedEvent& event) {
  const EventKind kind = kind_of_event(event);
  std::string text = called(kind);
  if (!kind.value.empty()) text += (text == "firmware version" ? " " : ": ") + kind.value;
  if (event.digests.empty() && !event.what.empty()) text += ", text " + event.pattern;
  if (event.digests.size() > 1) text += ", one of " + std::to_string(event.digests.size()) + " digests";
  if (!event.required) text += ", not required";
  if (event.repeats) text += ", may repeat";
  return text;
}

bool same_event(const ExpectedEvent& before, const ExpectedEvent& after) {
  if (before.digests.empty() && after.digests.empty()) return before.pattern == after.pattern;
  return std::ranges::any_of(before.digests, [&](const Digest256& digest) {
    return std::ranges::find(after.digests, digest) != after.digests.end();
  });
}

// An event and its kind, which is asked for in each comparison.
struct Row {
  const ExpectedEvent* event;
  EventKind kind;
};

class EventDiff {
 public:
  EventDiff(const Reference& before, const Reference& after) {
    for (const ExpectedEvent& event : before.events)
      if (after.judges(event.pcr)) before_.push_back({&event, kind_of_event(event)});
    for (const ExpectedEvent& event : after.events)
      if (before.judges(event.pcr)) after_.push_back({&event, kind_of_event(event)});
  }

  std::vector<Difference> run() {
    pair([](const Row& one,
            const Row& other) { return same_place(one, other) && same_event(*one.event, *other.event); },
         [this](const Row& one, const Row& other) { note_terms(*one.event, *other.event); });
    // What moved to the other side of the separator is measured by somebody else now.
    pair(
        [](const Row& one, const Row& other) {
          return one.event->pcr == other.event->pcr && same_event(*one.event, *other.event);
        },
        [this](const Row& one, const Row& other) {
          note('~', *other.event,
               called(other.kind) + (other.event->after_separator ? ": after the firmware's separator now"
                                                                  : ": before the firmware's separator now"));
          note_terms(*one.event, *other.event);
        });
    pair([](const Row& one,
            const Row& other) { return same_place(one, other) && one.kind.name == other.kind.name; },
         [this](const Row& one, const Row& other) {
           note('~', *other.event, changed_text(*one.event, *other.event));
           const std::size_t was = one.event->digests.size(), is = other.event->digests.size();
           if (was != is && was != 0 && is != 0)
             note('~', *other.event,
                  called(other.kind) + ": one of " + std::to_string(is) + " digests, was one of " +
                      std::to_string(was));
           note_flags(*one.event, *other.event);
         });
    for (const Row& row : before_) note('-', *row.event, "gone: " + whole_text(*row.event));
    for (const Row& row : after_) note('+', *row.event, "new: " + whole_text(*row.event));
    std::ranges::stable_sort(out_, {}, [](const Difference& one) { return *one.pcr; });
    return std::move(out_);
  }

 private:
  static bool same_place(const Row& one, const Row& other) {
    return one.event->pcr == other.event->pcr && one.event->after_separator == other.event->after_separator;
  }

  // pair takes the first partner of each event that `fits`, out of both rows.
  template <class Fits, class Found>
  void pair(Fits fits, Found found) {
    std::erase_if(before_, [&](const Row& one) {
      const auto partner = std::ranges::find_if(after_, [&](const Row& other) { return fits(one, other); });
      if (partner == after_.end()) return false;
      found(one, *partner);
      after_.erase(partner);
      return true;
    });
  }

  void note(char sign, const ExpectedEvent& event, std::string text) {
    out_.push_back({sign, event.pcr, std::move(text)});
  }

  // Of an event that both have: which digests, and on what terms.
  void note_terms(const ExpectedEvent& before, const ExpectedEvent& after) {
    const std::set<Digest256> was{before.digests.begin(), before.digests.end()};
    const std::set<Digest256> is{after.digests.begin(), after.digests.end()};
    const auto more = [](const std::set<Digest256>& some, const std::set<Digest256>& than) {
      return std::ranges::count_if(some, [&](const Digest256& digest) { return !than.contains(digest); });
    };
    const std::string name = called(kind_of_event(after));
    if (const auto added = more(is, was); added != 0)
      note('~', after,
           name + ": " + std::to_string(added) + (added == 1 ? " digest" : " digests") + " more accepted");
    if (const auto gone = more(was, is); gone != 0)
      note('~', after,
           name + ": " + std::to_string(gone) + (gone == 1 ? " digest" : " digests") + " no longer accepted");
    note_flags(before, after);
  }

  void note_flags(const ExpectedEvent& before, const ExpectedEvent& after) {
    const std::string name = called(kind_of_event(after));
    if (before.required != after.required)
      note('~', after, name + (after.required ? ": required now" : ": no longer required"));
    if (before.repeats != after.repeats)
      note('~', after, name + (after.repeats ? ": may repeat now" : ": may no longer repeat"));
  }

  std::vector<Row> before_, after_;
  std::vector<Difference> out_;
};

}  // namespace

std::vector<Difference> diff_references(const Reference& before, const Reference& after) {
  std::vector<Difference> out;
  const auto whole = [&](std::string text) { out.push_back({'~', std::nullopt, std::move(text)}); };
  const auto until = [](const Reference& one) {
    return one.not_after ? "until " + evidence::day_text(*one.not_after) + " begins"
                         : std::string{"without end"};
  };
  if (before.not_after != after.not_after) whole("in force " + until(before) + " -> " + until(after));
  if (before.as_enrolled != after.as_enrolled) {
    whole(after.as_enrolled ? "accepts the enrolled boot now, where events were listed"
                            : "lists events now, where it accepted the enrolled boot");
    return out;
  }
  if (before.secure_boot != after.secure_boot)
    whole(after.secure_boot ? "Secure Boot OFF -> on" : "Secure Boot on -> OFF");
  if (const std::uint32_t judged = before.unjudged & ~after.unjudged; judged != 0)
    whole("PCR " + pcrs_text(judged) + " is judged now");
  if (const std::uint32_t unjudged = after.unjudged & ~before.unjudged; unjudged != 0)
    whole("PCR " + pcrs_text(unjudged) + " is no longer judged: any event is accepted there");
  std::ranges::move(EventDiff{before, after}.run(), std::back_inserter(out));
  return out;
}

namespace {

using Files = std::map<std::string, std::set<std::string>>;  // digests, by path

// files_of reads the lines of an allow list, which was parsed already.
Files files_of(std::string_view lines) {
  Files out;
  while (!lines.empty()) {
    const std::string_view line = lines.substr(0, lines.find('\n'));
    lines.remove_prefix(std::min(lines.size(), line.size() + 1));
    const std::size_t space = line.find(' ');
    if (space != line.npos) out[std::string{line.substr(space + 1)}].emplace(line.substr(0, space));
  }
  return out;
}

}  // namespace

std::vector<Difference> diff_ima(const std::optional<evidence::ImaReference>& before,
                                 const std::optional<evidence::ImaReference>& after) {
  std::vector<Difference> out;
  const auto tell = [&](char sign, std::string text) {
    out.push_back({sign, evidence::kImaPcr, std::move(text)});
  };
  if (before.has_value() != after.has_value())
    tell(after ? '+' : '-', after ? "what is measured later is judged now: machines bring their IMA lists"
                                  : "what is measured later is judged no more");
  const evidence::ImaReference::Terms none;
  const auto& was = before ? before->terms() : none;
  const auto& is = after ? after->terms() : none;
  const auto keys = [&](char sign, const auto& of, const auto& than) {
    for (const crypto::PublicKey& key : of.keys)
      if (std::ranges::find(than.keys, key) == than.keys.end())
        tell(sign, "a key that signs files: sha256:" + to_hex(key.id()));
  };
  keys('-', was, is);
  keys('+', is, was);
  if (was.violations != is.violations)
    tell('~', is.violations ? "violations are accepted now" : "violations are no longer accepted");
  if (was.padded_sha1 != is.padded_sha1)
    tell('~', is.padded_sha1 ? "lists that rest on SHA-1 are accepted now"
                             : "lists that rest on SHA-1 are no longer accepted");
  const Files had = files_of(was.files), has = files_of(is.files);
  for (const auto& [path, digests] : had)
    if (!has.contains(path)) tell('-', "gone: " + path);
  for (const auto& [path, digests] : has) {
    const auto old = had.find(path);
    if (old == had.end())
      tell('+', "new: " + path);
    else if (old->second != digests)
      tell('~', path + (std::ranges::includes(digests, old->second)   ? ": more contents accepted"
                        : std::ranges::includes(old->second, digests) ? ": fewer contents accepted"
                                                                      : ": another content"));
  }
  return out;
}

std::vector<ReferencePair> diff_values(const std::vector<Reference>& before,
                                       const std::vector<Reference>& after) {
  std::vector<ReferencePair> out;
  std::set<const Reference*> used;
  for (const Reference& one : after) {
    ReferencePair nearest{nullptr, &one, {}};
    const auto same_id = std::ranges::find(before, one.id, &Reference::id);
    for (const Reference& other : before) {
      if (same_id != before.end() && &other != &*same_id) continue;
      std::vector<Difference> differences = diff_references(other, one);
      if (nearest.before != nullptr && differences.size() >= nearest.differences.size()) continue;
      nearest = {&other, &one, std::move(differences)};
    }
    used.insert(nearest.before);
    out.push_back(std::move(nearest));
  }
  for (const Reference& other : before) {
    // One that served another as its nearest is gone all the same, unless it was the only one of its side.
    const bool by_id = std::ranges::find(after, other.id, &Reference::id) != after.end();
    if (!by_id && !(before.size() == 1 && after.size() == 1)) out.push_back({&other, nullptr, {}});
  }
  return out;
}

}  // namespace sallyport::client::evidence_tools
