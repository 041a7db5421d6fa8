#pragma once

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "attestation/crypto/digest.h"
#include "attestation/evidence/event_log.h"
#include "attestation/evidence/reference_values.h"
#include "tests/support/log_builder.h"
#include "tests/support/soft_tpm.h"

namespace sallyport::test {

// BootLog writes an event log of SHA-256 event by event, as firmware does, or as an attacker would like it to
// be.
class BootLog {
 public:
  struct Event {
    std::uint32_t pcr, type;
    Digest256 digest;
    Bytes data;
  };
  std::vector<Event> events;

  BootLog& add(std::uint32_t pcr, evidence::EventType type, const Digest256& digest, Bytes data = {}) {
    events.push_back({pcr, static_cast<std::uint32_t>(type), digest, std::move(data)});
    return *this;
  }
  // An event whose data hashes to its digest.
  BootLog& add(std::uint32_t pcr, evidence::EventType type, Bytes data) {
    const Digest256 digest = crypto::sha256(data);
    return add(pcr, type, digest, std::move(data));
  }
  BootLog& text(std::uint32_t pcr, evidence::EventType type, std::string_view words) {
    return add(pcr, type, to_bytes(as_bytes(words)));
  }
  // An image, which is measured by its content: the data says something else.
  BootLog& image(std::uint32_t pcr, std::string_view content) {
    return add(pcr, evidence::EventType::kEfiBootServicesApplication, crypto::sha256(as_bytes(content)),
               to_bytes(as_bytes("where it lay")));
  }
  // What grub measures of a line: the log has words before it that the digest does not.
  BootLog& grub(std::string_view words, std::string_view line) {
    Bytes data = to_bytes(as_bytes(std::string{words} + std::string{line}));
    data.push_back(0);
    return add(8, evidence::EventType::kIpl, crypto::sha256(as_bytes(line)), std::move(data));
  }
  // What systemd-stub measures of a unified kernel image into PCR 11: of each section its name with the NUL,
  // then its content. Both events have the name in UTF-16 as their data (systemd, TPM2_PCR_MEASUREMENTS).
  BootLog& section(std::string_view name, std::string_view content) {
    Bytes shown;
    for (const char c : name) shown.insert(shown.end(), {static_cast<std::uint8_t>(c), 0});
    shown.insert(shown.end(), {0, 0});
    Bytes named = to_bytes(as_bytes(name));
    named.push_back(0);
    add(11, evidence::EventType::kIpl, crypto::sha256(named), shown);
    return add(11, evidence::EventType::kIpl, crypto::sha256(as_bytes(content)), std::move(shown));
  }
  BootLog& separator(std::uint32_t pcr, std::uint32_t value = 0) {
    Bytes data;
    for (int i = 0; i < 4; ++i) data.push_back(static_cast<std::uint8_t>(value >> 8 * i));
    return add(pcr, evidence::EventType::kSeparator, std::move(data));
  }
  BootLog& variable(std::uint32_t pcr, evidence::EventType type, std::string_view name, Bytes value) {
    constexpr ByteArray<16> kGlobal{0x61, 0xDF, 0xE4, 0x8B, 0xCA, 0x93, 0xD2, 0x11,
                                    0xAA, 0x0D, 0x00, 0xE0, 0x98, 0x03, 0x2B, 0x8C};
    Bytes data{kGlobal.begin(), kGlobal.end()};
    for (const std::size_t size : {name.size(), value.size()})
      for (int i = 0; i < 8; ++i) data.push_back(static_cast<std::uint8_t>(std::uint64_t{size} >> 8 * i));
    for (const char c : name) data.insert(data.end(), {static_cast<std::uint8_t>(c), 0});
    data.insert(data.end(), value.begin(), value.end());
    return add(pcr, type, std::move(data));
  }

  // good is a machine with Secure Boot that starts shim, grub and a kernel.
  static BootLog good(std::string_view firmware = "firmware 1.0", std::string_view kernel = "kernel 6.1",
                      std::uint8_t secure_boot = 1) {
    using enum evidence::EventType;
    BootLog log;
    log.text(0, kSCrtmVersion, firmware);
    log.variable(7, kEfiVariableDriverConfig, "SecureBoot", {secure_boot});
    for (const std::string_view name : {"PK", "KEK", "db", "dbx"})
      log.variable(7, kEfiVariableDriverConfig, name, to_bytes(as_bytes(name)));
    log.separator(7);
    log.text(1, kEfiVariableBoot, "BootOrder 1,2");
    log.text(4, kEfiAction, "Calling EFI Application from Boot Option");
    for (std::uint32_t pcr = 0; pcr < 7; ++pcr) log.separator(pcr);
    log.variable(7, kEfiVariableAuthority, "db", to_bytes(as_bytes("vendor CA")));
    log.text(5, kEfiGptEvent, "the disk");
    log.image(4, "shim").add(14, kIpl, crypto::sha256(as_bytes("MokList")), to_bytes(as_bytes("MokList")));
    log.image(4, "grub").image(4, kernel);
    return log;
  }

  // of takes the events of a real log, with their SHA-256 digests, to be changed.
  static BootLog of(const evidence::EventLog& log) {
    BootLog out;
    for (const evidence::LogEvent& event : log.events()) {
      const auto digest = event.digest(evidence::LogAlgorithm::kSha256);
      if (!event.extends() || !digest) continue;
      ByteArray<32> bytes{};
      std::ranges::copy(*digest, bytes.begin());
      out.events.push_back({event.pcr, event.type, Digest256{bytes}, to_bytes(event.data)});
    }
    return out;
  }

  Bytes encode() const {
    LogBuilder out;
    out.spec_id({});
    for (const Event& event : events)
      out.event(event.pcr, event.type, event.data, {{0x000B, to_bytes(view(event.digest))}});
    return out.bytes;
  }

  // reference describes this boot, event by event; PCR 1 and 5 may be any.
  evidence::Reference reference(std::string id = "good") const {
    evidence::Reference out;
    out.id = std::move(id);
    out.unjudged = 1u << 1 | 1u << 5;
    std::set<std::uint32_t> separated;
    for (const Event& event : events) {
      if (event.type == static_cast<std::uint32_t>(evidence::EventType::kSeparator)) {
        separated.insert(event.pcr);
      } else if (event.pcr <= 14 && out.judges(event.pcr)) {
        out.events.push_back({.pcr = static_cast<std::uint8_t>(event.pcr),
                              .after_separator = separated.contains(event.pcr),
                              .required = true,
                              .repeats = false,
                              .digests = {event.digest},
                              .pattern = {},
                              .what = "event " + std::to_string(&event - events.data())});
      }
      if (event.pcr == 7 && event.data.size() == 53) out.secure_boot = event.data.back() == 1;
    }
    return out;
  }
  // document gives reference values with these references, and perhaps the enrolled boot.
  static std::string document(std::vector<evidence::Reference> references, bool as_enrolled = false,
                              std::uint64_t version = 1) {
    evidence::ReferenceValues values;
    values.version = version;
    values.references = std::move(references);
    if (as_enrolled) values.references.push_back(evidence::ReferenceValues::as_enrolled().references.front());
    return evidence::write_reference_values(values);
  }

  // boot resets a TPM and has it measure this log, which it keeps.
  void boot(SoftTpm& tpm) const {
    tpm.reset();
    for (const Event& event : events)
      if (event.type != static_cast<std::uint32_t>(evidence::EventType::kNoAction))
        tpm.extend(event.pcr, event.digest);
    tpm.event_log = encode();
  }
};

}  // namespace sallyport::test
