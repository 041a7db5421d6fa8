#include "client/evidence/learn.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <tuple>

#include "attestation/base/hex.h"
#include "attestation/evidence/appraisal.h"
#include "attestation/evidence/efi.h"
#include "client/evidence/event_kind.h"

namespace sallyport::client::evidence_tools {
namespace {

using evidence::EventLog;
using evidence::ExpectedEvent;
using evidence::kSeparatedPcrs;
using evidence::LogAlgorithm;
using evidence::LogEvent;
using evidence::PcrSelection;
using evidence::Reference;

struct Place {
  std::uint8_t pcr = 0;
  bool after_separator = false;
  friend auto operator<=>(const Place&, const Place&) = default;
};

// What one log shows at one place, in its order.
struct Shown {
  Digest256 digest;
  std::string kind, what;
};
using Places = std::map<Place, std::vector<Shown>>;

Error refused(const NamedLog& log, const std::string& words) {
  return Error{Code::kMalformed, log.name + ": " + words + " (sallyport evidence show tells its events)"};
}

// find_secure_boot gives what the firmware measured of it. Whether that was once, and before the separator,
// judge_boot tells in the end.
std::optional<bool> find_secure_boot(const EventLog& log) {
  for (const LogEvent& event : log.events())
    if (const auto measured = evidence::measured_secure_boot(event)) return measured;
  return std::nullopt;
}

Result<Places> places_of(const NamedLog& named, const PcrSelection& selection, std::uint32_t unjudged) {
  Places out;
  std::array<bool, kSeparatedPcrs> separated{};
  for (const LogEvent& event : named.log.events()) {
    if (!event.extends() || !selection.contains(event.pcr) || (unjudged >> event.pcr & 1) != 0) continue;
    const Digest256 digest = evidence::sha256_of(event);
    if (digest == Digest256{})
      return refused(
          named, "event " + std::to_string(event.number) + " has a digest of zeros, as no measurement has");
    if (event.pcr < kSeparatedPcrs && evidence::is_separator(digest)) {
      separated[event.pcr] = true;  // the judgement knows it
      continue;
    }
    const Place place{static_cast<std::uint8_t>(event.pcr),
                      event.pcr < kSeparatedPcrs && separated[event.pcr]};
    const std::string what = evidence::describe(event);
    out[place].push_back({digest, evidence::event_type_name(event.type) + " " + kind_of(what).name, what});
  }
  return out;
}

// Groups puts the digests of one place together that may stand for each other.
class Groups {
 public:
  void join(const Digest256& one, const Digest256& other) {
    const Digest256 a = leader(one), b = leader(other);
    if (a != b) leader_[b] = a;
  }
  Digest256 leader(Digest256 digest) const {
    for (auto above = leader_.find(digest); above != leader_.end(); above = leader_.find(digest))
      digest = above->second;
    return digest;
  }

 private:
  std::map<Digest256, Digest256> leader_;
};

// learn_place gives the events of one place. `rows` has one of each log.
std::vector<ExpectedEvent> learn_place(const Place& place, const std::vector<std::vector<Shown>>& rows) {
  std::map<Digest256, std::set<std::size_t>> logs_with;
  for (std::size_t log = 0; log < rows.size(); ++log)
    for (const Shown& shown : rows[log]) logs_with[shown.digest].insert(log);

  // Digests that some logs lack, by kind and place in the row of their kind.
  Groups groups;
  std::map<std::pair<std::string, std::size_t>, Digest256> first_of_role;
  for (const std::vector<Shown>& row : rows) {
    std::map<std::string, std::size_t> of_kind;
    std::set<Digest256> seen;
    for (const Shown& shown : row) {
      if (logs_with[shown.digest].size() == rows.size() || !seen.insert(shown.digest).second) continue;
      const auto [first, fresh] =
          first_of_role.emplace(std::pair{shown.kind, of_kind[shown.kind]++}, shown.digest);
      if (!fresh) groups.join(first->second, shown.digest);
    }
  }

  std::vector<ExpectedEvent> out;
  std::map<Digest256, std::size_t> event_of;    // by the group's leader
  std::vector<std::vector<std::size_t>> often;  // of each event: how often each log has it
  for (std::size_t log = 0; log < rows.size(); ++log) {
    for (const Shown& shown : rows[log]) {
      const auto [at, fresh] = event_of.emplace(groups.leader(shown.digest), out.size());
      if (fresh) {
        out.push_back({.pcr = place.pcr,
                       .after_separator = place.after_separator,
                       .required = true,
                       .repeats = false,
                       .digests = {},
                       .pattern = {},
                       .what = shown.what});
        often.emplace_back(rows.size(), 0);
      }
      ++often[at->second][log];
      std::vector<Digest256>& digests = out[at->second].digests;
      if (std::ranges::find(digests, shown.digest) == digests.end()) digests.push_back(shown.digest);
    }
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i].required = std::ranges::find(often[i], 0u) == often[i].end();
    out[i].repeats = std::ranges::any_of(often[i], [](std::size_t times) { return times > 1; });
  }
  return out;
}

}  // namespace

Result<Reference> learn_reference(std::span<const NamedLog> logs, const PcrSelection& selection,
                                  std::uint32_t unjudged, const std::string& id) {
  SP_ASSERT(!logs.empty());
  std::optional<bool> secure_boot;
  std::vector<Places> of_logs;
  std::set<Place> places;
  for (const NamedLog& named : logs) {
    if (const auto replayed = evidence::replay(named.log, LogAlgorithm::kSha256); !replayed.has_value())
      return Error{Code::kUnverified, Reason::kEventLogBank, named.name + ": " + replayed.error().what};
    const std::optional<bool> measured = find_secure_boot(named.log);
    if (!measured) return refused(named, "the firmware did not measure whether Secure Boot is on");
    if (secure_boot && *secure_boot != *measured)
      return refused(named, std::string{"Secure Boot is "} + (*measured ? "on" : "off") + ", and in " +
                                logs.front().name + " it is not so: learn them apart");
    secure_boot = measured;
    SP_TRY(Places shown, places_of(named, selection, unjudged));
    for (const auto& [place, events] : shown) places.insert(place);
    of_logs.push_back(std::move(shown));
  }

  Reference out;
  out.id = id;
  out.secure_boot = *secure_boot;
  out.unjudged = unjudged;
  for (const Place& place : places) {
    std::vector<std::vector<Shown>> rows;
    for (const Places& of_log : of_logs) {
      const auto found = of_log.find(place);
      rows.push_back(found == of_log.end() ? std::vector<Shown>{} : found->second);
    }
    std::ranges::move(learn_place(place, rows), std::back_inserter(out.events));
  }

  // What is handed out is what a document of it says, and is tried on the logs that it comes from.
  evidence::ReferenceValues values;
  values.version = 1;
  values.selection = selection;
  values.references = {std::move(out)};
  SP_TRY(const auto read_back, evidence::parse_reference_values(evidence::write_reference_values(values)));
  for (const NamedLog& named : logs) {
    const auto findings = evidence::judge_boot(named.log, selection, read_back.references.front(), 1);
    if (!findings.empty())
      return refused(named, "no reference can accept this boot: " + findings.front().words);
  }
  return read_back.references.front();
}

}  // namespace sallyport::client::evidence_tools
