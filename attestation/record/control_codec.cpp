#include <algorithm>
#include <map>

#include "attestation/base/reader.h"
#include "attestation/base/writer.h"
#include "attestation/crypto/digest.h"
#include "attestation/record/fold.h"
#include "attestation/record/times.h"

// The bytes of a ControlState, field by field as in README.md, "Snapshots". Whatever follows from other
// fields is left out and made again: keys by digest, what to forget and when.

namespace sallyport::record {
namespace {

constexpr std::string_view kMagic = "spstate1";
// Beside where a policy's TPM roots are: it names reference values, which follow.
constexpr std::uint32_t kHasReferences = 1u << 31;
// Beside a machine's selection of PCRs: it has an identity, which follows,
constexpr std::uint32_t kHasIdentity = 1u << 31;
constexpr std::uint32_t kHasMaker = 1u << 30;  // and who made its TPM, behind that
constexpr std::size_t kMaxMakerBytes = 4;
constexpr std::size_t kMaxOriginBytes = 200;
constexpr std::size_t kMaxIdBytes = 128;
constexpr std::size_t kMaxPublicAreaBytes = 1024;

Error malformed(const char* what) {
  return Error{Code::kMalformed, what};
}

// A count can be no larger than the bytes that are left allow; reading would find that out, but later.
Result<std::size_t> read_count(Reader& in, std::size_t least_bytes_each) {
  SP_TRY(const std::uint32_t count, in.u32());
  if (count > in.remaining() / least_bytes_each) return malformed("truncated");
  return std::size_t{count};
}

Result<bool> read_flag(Reader& in) {
  SP_TRY(const std::uint8_t byte, in.u8());
  if (byte > 1) return malformed("a flag that is neither 0 nor 1");
  return byte == 1;
}

Result<std::string> read_text(Reader& in, std::size_t max) {
  SP_TRY(const ByteView bytes, in.prefixed32(max));
  if (bytes.empty()) return malformed("a name that is empty");
  return std::string{as_text(bytes)};
}

Result<UnixMillis> read_time(Reader& in) {
  SP_TRY(const std::uint64_t time, in.u64());
  if (UnixMillis{time} > kLastTime + kPolicyLife + kIdMemory) return malformed("a time that is too late");
  return UnixMillis{time};
}

Result<LeafIndex> read_index(Reader& in, TreeSize size) {
  SP_TRY(const std::uint64_t index, in.u64());
  if (index >= size.get()) return malformed("an index beyond the leaves");
  return LeafIndex{index};
}

Result<DeviceId> read_device_id(Reader& in) {
  SP_TRY(const auto id, in.array<32>());
  return DeviceId{Digest256{id}};
}
Result<KeyId> read_key_id(Reader& in) {
  SP_TRY(const auto id, in.array<32>());
  return KeyId{Digest256{id}};
}
Result<CaseId> read_case_id(Reader& in) {
  SP_TRY(const auto id, in.array<16>());
  return CaseId{id};
}

// The identity's template has SHA-256 for its Name.
Result<evidence::TpmName> read_identity(Reader& in) {
  SP_TRY(const ByteView name, in.raw(34));
  if (name[0] != 0x00 || name[1] != 0x0b) return malformed("an identity that is no Name of its template");
  return evidence::TpmName{to_bytes(name)};
}

// has_details tells whether there is more of a machine than its fixed part says.
bool has_details(const Device& device) {
  return device.identity || !device.tpm_maker.empty() ||
         device.baseline.selection != evidence::PcrSelection::standard();
}

}  // namespace

class ControlCodec {
 public:
  static Bytes encode(const ControlState& state);
  static Result<ControlState> parse(ByteView bytes);
  static LeafIndex earliest_case(const ControlState& state);

 private:
  static void write_policies(const ControlState& state, Writer& out);
  static void write_device(const Device& device, Writer& out);
  static void write_case(const CaseTrace& trace, Writer& out);
  static Status read_policies(Reader& in, ControlState& state);
  static Result<Device> read_device(Reader& in, TreeSize size);
  static Result<CaseTrace> read_case(Reader& in, const ControlState& state);
  // read_keys reads the keys of a set or map, which ascend, and calls `with(key)` for what follows each.
  template <class Read, class With>
  static Status read_keys(Reader& in, std::size_t least_bytes_each, Read read, With with);
};

void ControlCodec::write_policies(const ControlState& state, Writer& out) {
  out.u32(static_cast<std::uint32_t>(state.policies_->size()));
  std::map<Digest256, std::uint32_t> bundles, references;  // where each is for the first time
  std::uint32_t position = 0;
  for (const auto& loaded : *state.policies_) {
    const policy::Authority& authority = loaded->policy.authority;
    const auto [bundle, is_new] = bundles.emplace(authority.tpm_roots, position);
    out.u64(loaded->first_index.get()).prefixed32(loaded->policy.text);
    out.u32(bundle->second | (authority.references ? kHasReferences : 0));
    if (is_new) out.prefixed32(loaded->tpm_roots);
    if (authority.references) {
      const auto [document, is_new_document] = references.emplace(*authority.references, position);
      out.u32(document->second);
      if (is_new_document) out.prefixed32(*loaded->reference_text);
    }
    ++position;
  }
}

Status ControlCodec::read_policies(Reader& in, ControlState& state) {
  SP_TRY(const std::size_t count, read_count(in, 16));
  auto policies = *state.policies_;
  std::map<Digest256, std::uint32_t> bundles, references;
  for (std::uint32_t i = 0; i < count; ++i) {
    SP_TRY(const LeafIndex first, read_index(in, state.size()));
    SP_TRY(const ByteView text, in.prefixed32(max_evidence_bytes(EvidenceType::kPolicyText)));
    SP_TRY(const std::uint32_t flagged, in.u32());
    const std::uint32_t where = flagged & ~kHasReferences;
    // document reads what is here for the first time; of a policy before, it is that one's.
    const auto document = [&](std::uint32_t at, EvidenceType type, auto of) -> Result<Bytes> {
      if (at > i) return malformed("a document is not among those before");
      if (at < i) return of(*policies[at]);
      SP_TRY(const ByteView bytes, in.prefixed32(max_evidence_bytes(type)));
      return to_bytes(bytes);
    };
    PolicyDocument read{to_bytes(text), {}, {}};
    SP_TRY(read.tpm_roots,
           document(where, EvidenceType::kTpmRoots, [](const LoadedPolicy& one) { return one.tpm_roots; }));
    std::uint32_t where_references = 0;
    if ((flagged & kHasReferences) != 0) {
      SP_TRY(where_references, in.u32());
      SP_TRY(read.references,
             document(where_references, EvidenceType::kReferences,
                      [](const LoadedPolicy& one) { return one.reference_text.value_or(Bytes{}); }));
    }
    SP_TRY(LoadedPolicy loaded, load_policy(std::move(read), state.origin_, first));
    const policy::Authority& authority = loaded.policy.authority;
    if (bundles.emplace(authority.tpm_roots, i).first->second != where ||
        (authority.references &&
         references.emplace(*authority.references, i).first->second != where_references))
      return malformed("a document is not where it is for the first time");
    if (i == 0) {
      const bool begins = loaded.policy.version == 1 || loaded.policy.authority.continues;
      if (first.get() != 0 || !begins || loaded.policy.digest != state.genesis_policy_)
        return malformed("the first policy is not the one of the log");
    } else {
      if (first <= policies.back()->first_index) return malformed("policies are not in the order of the log");
      if (!policy::check_successor(policies.back()->policy, loaded.policy).has_value())
        return malformed("a policy is not the successor of the one before");
    }
    policies.push_back(std::make_shared<const LoadedPolicy>(std::move(loaded)));
  }
  if (policies.empty() != (state.size().get() == 0)) return malformed("leaves without a policy");
  state.policies_ = std::make_shared<const decltype(policies)>(std::move(policies));
  return Done{};
}

void ControlCodec::write_device(const Device& device, Writer& out) {
  out.u64(device.enrolled.get())
      .prefixed32(device.name)
      .prefixed32(device.region.get())
      .prefixed32(device.ak);
  out.raw(view(device.baseline.pcr_digest)).u64(device.clock.clock_ms).u32(device.clock.reset_count);
  out.u32(device.clock.restart_count).u8(device.clock.safe ? 1 : 0);
}

Result<Device> ControlCodec::read_device(Reader& in, TreeSize size) {
  SP_TRY(const LeafIndex enrolled, read_index(in, size));
  SP_TRY(std::string name, read_text(in, kMaxIdBytes));
  SP_TRY(std::string region, read_text(in, kMaxIdBytes));
  SP_TRY(const ByteView ak, in.prefixed32(kMaxPublicAreaBytes));
  SP_TRY(evidence::AttestationKey key, evidence::parse_attestation_key(ak));
  SP_TRY(const auto pcrs, in.array<32>());
  evidence::ClockInfo clock;
  SP_TRY(clock.clock_ms, in.u64());
  SP_TRY(clock.reset_count, in.u32());
  SP_TRY(clock.restart_count, in.u32());
  SP_TRY(clock.safe, read_flag(in));
  return Device{.id = {},
                .name = std::move(name),
                .region = RegionId{std::move(region)},
                .ak = to_bytes(ak),
                .attestation_key = std::move(key),
                .baseline = {evidence::PcrSelection::standard(), Digest256{pcrs}},
                .clock = clock,
                .enrolled = enrolled};
}

void ControlCodec::write_case(const CaseTrace& trace, Writer& out) {
  out.u8(static_cast<std::uint8_t>(trace.opened_by)).u64(trace.first.get()).u64(trace.last.get());
  out.u64(trace.opened.get()).u64(trace.expires.get());
  out.u32(static_cast<std::uint32_t>(trace.approvals.size()));
  for (const UnixMillis at : trace.approvals) out.u64(at.get());
  out.u8(trace.denied ? 1 : 0).u8(trace.closed ? 1 : 0).u8(trace.grant ? 1 : 0);
  if (!trace.grant) return;
  out.u64(trace.grant->index.get()).raw(view(trace.grant->leaf_hash));
  out.u64(trace.grant->not_before.get()).u64(trace.grant->not_after.get());
}

Result<CaseTrace> ControlCodec::read_case(Reader& in, const ControlState& state) {
  CaseTrace trace;
  SP_TRY(const std::uint8_t kind, in.u8());
  SP_TRY(trace.opened_by, parse_kind(kind));
  if (!opens(trace.opened_by) && trace.opened_by != Kind::kPolicy)
    return malformed("a case opened by a kind that opens none");
  SP_TRY(trace.first, read_index(in, state.size()));
  SP_TRY(trace.last, read_index(in, state.size()));
  SP_TRY(trace.opened, read_time(in));
  SP_TRY(trace.expires, read_time(in));
  if (trace.last < trace.first || trace.opened > state.last_time_ || trace.expires < trace.opened)
    return malformed("a case that ends before it begins");
  SP_TRY(const std::size_t approvals, read_count(in, 8));
  UnixMillis before = trace.opened;
  for (std::size_t i = 0; i < approvals; ++i) {
    SP_TRY(const UnixMillis at, read_time(in));
    if (at < before || at > state.last_time_) return malformed("approvals are not in the order of the log");
    trace.approvals.push_back(before = at);
  }
  SP_TRY(trace.denied, read_flag(in));
  SP_TRY(trace.closed, read_flag(in));
  SP_TRY(const bool granted, read_flag(in));
  if (granted) {
    GrantMark mark;
    SP_TRY(mark.index, read_index(in, state.size()));
    SP_TRY(const auto hash, in.array<32>());
    mark.leaf_hash = Digest256{hash};
    SP_TRY(mark.not_before, read_time(in));
    SP_TRY(mark.not_after, read_time(in));
    const bool within = mark.index > trace.first && mark.index <= trace.last &&
                        mark.not_before >= trace.opened && mark.not_before <= state.last_time_ &&
                        mark.not_after >= mark.not_before;
    if (!within) return malformed("a grant outside of its case");
    trace.grant = mark;
  }
  return trace;
}

template <class Read, class With>
Status ControlCodec::read_keys(Reader& in, std::size_t least_bytes_each, Read read, With with) {
  SP_TRY(const std::size_t count, read_count(in, least_bytes_each));
  std::optional<std::decay_t<decltype(read(in).value())>> before;
  for (std::size_t i = 0; i < count; ++i) {
    SP_TRY(auto key, read(in));
    if (before && !(*before < key)) return malformed("keys do not ascend, each once");
    SP_CHECK(with(key));
    before = std::move(key);
  }
  return Done{};
}

Bytes ControlCodec::encode(const ControlState& state) {
  Writer out;
  const auto count = [&](const auto& map) { out.u32(static_cast<std::uint32_t>(map.size())); };
  out.raw(kMagic).prefixed32(state.origin_.get()).raw(view(state.genesis_policy_));
  out.u64(state.last_time_.get()).prefixed32(state.range_.encode());
  write_policies(state, out);
  count(state.devices_);
  state.devices_.for_each([&](const DeviceId& id, const auto& device) {
    out.raw(view(id));
    write_device(*device, out);
  });
  count(state.revoked_devices_);
  state.revoked_devices_.for_each([&](const DeviceId& id, const auto&) { out.raw(view(id)); });
  count(state.revoked_people_);
  state.revoked_people_.for_each([&](const std::string& id, const auto&) { out.prefixed32(id); });
  count(state.revoked_tokens_);
  state.revoked_tokens_.for_each([&](const KeyId& id, const auto&) { out.raw(view(id)); });
  count(state.revoked_cases_);
  state.revoked_cases_.for_each(
      [&](const CaseId& id, const UnixMillis& until) { out.raw(view(id)).u64(until.get()); });
  count(state.cases_);
  state.cases_.for_each([&](const CaseId& id, const CaseTrace& trace) {
    out.raw(view(id));
    write_case(trace, out);
  });
  out.u8(state.snapshot_ ? 1 : 0);
  if (state.snapshot_) out.u64(state.snapshot_->index.get()).u64(state.snapshot_->time.get());
  // Logs from before there were these have snapshots of states without them.
  std::vector<const Device*> detailed;
  state.devices_.for_each([&](const DeviceId&, const auto& device) {
    if (has_details(*device)) detailed.push_back(device.get());
  });
  const bool has_lost = !state.lost_.empty(), has_retired = has_lost || !state.retired_.empty();
  if (!state.holds_.empty() || !detailed.empty() || has_retired) {
    count(state.holds_);
    state.holds_.for_each([&](const CaseId& id, const std::vector<CaseId>& cases) {
      out.raw(view(id)).u32(static_cast<std::uint32_t>(cases.size()));
      for (const CaseId& one : cases) out.raw(view(one));
    });
  }
  if (!detailed.empty() || has_retired) {
    out.u32(static_cast<std::uint32_t>(detailed.size()));
    for (const Device* device : detailed) {
      const std::uint32_t mask = device->baseline.selection.mask();
      out.raw(view(device->id));
      out.u32(mask | (device->identity ? kHasIdentity : 0) | (device->tpm_maker.empty() ? 0 : kHasMaker));
      if (device->identity) out.raw(view(*device->identity));
      if (!device->tpm_maker.empty()) out.prefixed32(device->tpm_maker);
    }
  }
  const auto write_leaf = [&](const DeviceId& id, const LeafIndex& at) { out.raw(view(id)).u64(at.get()); };
  if (has_retired) {
    count(state.retired_);
    state.retired_.for_each(write_leaf);
  }
  if (has_lost) {
    count(state.lost_);
    state.lost_.for_each(write_leaf);
  }
  return std::move(out).take();
}

Result<ControlState> ControlCodec::parse(ByteView bytes) {
  if (bytes.size() > kMaxControlBytes) return malformed("a state longer than its cap");
  Reader in{bytes};
  SP_TRY(const ByteView magic, in.raw(kMagic.size()));
  if (as_text(magic) != kMagic) return malformed("not a state of this version");
  ControlState state;
  SP_TRY(std::string origin, read_text(in, kMaxOriginBytes));
  state.origin_ = Origin{std::move(origin)};
  SP_TRY(const auto genesis, in.array<32>());
  state.genesis_policy_ = Digest256{genesis};
  SP_TRY(state.last_time_, read_time(in));
  if (state.last_time_ > kLastTime) return malformed("a time that is too late");
  SP_TRY(const ByteView range, in.prefixed32(8 + 63 * 32));
  SP_TRY(state.range_, ledger::CompactRange::parse(range));
  if (state.size().get() == 0 && state.last_time_.get() != 0) return malformed("a time without a leaf");
  SP_CHECK(read_policies(in, state));

  SP_CHECK(read_keys(in, 32 + 8 + 3 * 4 + 32 + 17, read_device_id, [&](const DeviceId& id) -> Status {
    SP_TRY(Device device, read_device(in, state.size()));
    device.id = id;
    const Digest256 key = crypto::sha256(device.ak);
    if (state.attestation_keys_.contains(key)) return malformed("two machines with one attestation key");
    state.attestation_keys_.edit(key) = id;
    state.devices_.edit(id) = std::make_shared<const Device>(std::move(device));
    return Done{};
  }));
  SP_CHECK(read_keys(in, 32, read_device_id, [&](const DeviceId& id) -> Status {
    state.revoked_devices_.edit(id);
    return Done{};
  }));
  SP_CHECK(read_keys(
      in, 5, [](Reader& from) { return read_text(from, kMaxIdBytes); },
      [&](const std::string& id) -> Status {
        state.revoked_people_.edit(id);
        return Done{};
      }));
  SP_CHECK(read_keys(in, 32, read_key_id, [&](const KeyId& id) -> Status {
    state.revoked_tokens_.edit(id);
    return Done{};
  }));
  // What is due was forgotten, and is in no state.
  SP_CHECK(read_keys(in, 24, read_case_id, [&](const CaseId& id) -> Status {
    SP_TRY(const UnixMillis until, read_time(in));
    if (until <= state.last_time_) return malformed("a revoked case that is forgotten by now");
    state.revoked_cases_.edit(id) = until;
    state.forget_.edit({until, id});
    return Done{};
  }));
  SP_CHECK(read_keys(in, 16 + 33 + 4 + 3, read_case_id, [&](const CaseId& id) -> Status {
    SP_TRY(CaseTrace trace, read_case(in, state));
    const UnixMillis due = forget_at(trace);
    if (due <= state.last_time_) return malformed("a case that is forgotten by now");
    state.cases_.edit(id) = std::move(trace);
    state.forget_.edit({due, id});
    return Done{};
  }));
  SP_TRY(const bool marked, read_flag(in));
  if (marked) {
    SnapshotMark mark;
    SP_TRY(mark.index, read_index(in, state.size()));
    SP_TRY(mark.time, read_time(in));
    if (mark.index.get() == 0 || mark.time > state.last_time_) return malformed("a snapshot out of order");
    state.snapshot_ = mark;
  }
  if (in.remaining() != 0) {
    const auto read_cases = [&](std::vector<CaseId>& cases) {
      return read_keys(in, 16, read_case_id, [&](const CaseId& one) -> Status {
        cases.push_back(one);
        return Done{};
      });
    };
    SP_CHECK(read_keys(in, 20, read_case_id, [&](const CaseId& id) -> Status {
      std::vector<CaseId> cases;
      if (Status read = read_cases(cases); !read.has_value()) return read;
      if (cases.size() > kMaxNamedCases) return malformed("a hold on more cases than one may name");
      state.holds_.edit(id) = std::move(cases);
      return Done{};
    }));
    if (in.remaining() == 0 && state.holds_.empty()) return malformed("holds, and none among them");
  }
  if (in.remaining() != 0) {
    std::size_t details = 0;
    SP_CHECK(read_keys(in, 36, read_device_id, [&](const DeviceId& id) -> Status {
      SP_TRY(const std::uint32_t flagged, in.u32());
      SP_TRY(const evidence::PcrSelection selection,
             evidence::PcrSelection::from_mask(flagged & ~(kHasIdentity | kHasMaker)));
      const auto* found = state.devices_.find(id);
      if (found == nullptr) return malformed("details of a machine that is not there");
      auto device = std::make_shared<Device>(**found);
      device->baseline.selection = selection;
      if ((flagged & kHasIdentity) != 0) {
        SP_TRY(device->identity, read_identity(in));
        if (state.identities_.contains(*device->identity)) return malformed("two machines with one identity");
        state.identities_.edit(*device->identity) = id;
      }
      if ((flagged & kHasMaker) != 0) {
        SP_TRY(device->tpm_maker, read_text(in, kMaxMakerBytes));
        if (!is_tpm_maker(device->tpm_maker)) return malformed("a maker that is no vendor's letters");
      }
      if (!has_details(*device)) return malformed("details that say nothing");
      state.devices_.edit(id) = std::move(device);
      ++details;
      return Done{};
    }));
    if (details == 0 && in.remaining() == 0) return malformed("details, and none among them");
  }
  if (in.remaining() != 0) {
    SP_CHECK(read_keys(in, 40, read_device_id, [&](const DeviceId& id) -> Status {
      SP_TRY(const LeafIndex at, read_index(in, state.size()));
      const Device* device = state.find_device(id);
      // A log that goes on has both at its first leaf.
      if (device == nullptr || at < device->enrolled || state.revoked_devices_.contains(id))
        return malformed("a retired machine that is not enrolled, or is revoked");
      state.retired_.edit(id) = at;
      return Done{};
    }));
    if (state.retired_.empty() && in.remaining() == 0)
      return malformed("retired machines, and none among them");
  }
  if (in.remaining() != 0) {
    SP_CHECK(read_keys(in, 40, read_device_id, [&](const DeviceId& id) -> Status {
      SP_TRY(const LeafIndex at, read_index(in, state.size()));
      if (!state.revoked_devices_.contains(id)) return malformed("a lost machine that is not revoked");
      state.lost_.edit(id) = at;
      return Done{};
    }));
    if (state.lost_.empty()) return malformed("lost machines, and none among them");
  }
  SP_CHECK(in.finish());
  if (state.size().get() == 0 &&
      !equal(encode(state), encode(ControlState::begin(state.origin_, state.genesis_policy_))))
    return malformed("a state before the first leaf with something in it");
  return state;
}

LeafIndex ControlCodec::earliest_case(const ControlState& state) {
  LeafIndex earliest{state.size().get()};
  state.cases_.for_each(
      [&](const CaseId&, const CaseTrace& trace) { earliest = std::min(earliest, trace.first); });
  return earliest;
}

LeafIndex earliest_remembered(const ControlState& state) {
  return ControlCodec::earliest_case(state);
}

Bytes encode_control(const ControlState& state) {
  return ControlCodec::encode(state);
}
Result<ControlState> parse_control(ByteView bytes) {
  return ControlCodec::parse(bytes);
}

CaseId snapshot_case(const Origin& origin, std::uint64_t size, const Digest256& state) {
  Writer size_bytes;
  size_bytes.u64(size);
  const Digest256 digest = crypto::sha256({as_bytes(std::string_view{"sallyport/snapshot/v1\0", 22}),
                                           as_bytes(origin.get()), size_bytes.bytes(), view(state)});
  ByteArray<16> id;
  std::copy_n(digest.get().begin(), id.size(), id.begin());
  return CaseId{id};
}

}  // namespace sallyport::record
