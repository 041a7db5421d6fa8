// The client's part of an IMA list: a quote of PCR 10 by a real swtpm, and the list as a file that the kernel
// writes on.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "attestation/record/ima.h"
#include "client/connection/ima.h"
#include "tests/support/files.h"
#include "tests/support/ima_log.h"
#include "tests/support/matchers.h"
#include "tests/support/swtpm.h"

namespace sallyport::client {
namespace {

using record::EvidenceType;
using test::FailsWith;
using test::ImaLog;
using test::Succeeds;
using test::value_of;
using testing::HasSubstr;

class ImaListOfAMachine : public testing::Test {
 protected:
  ImaListOfAMachine() : tpm_(swtpm_.open()) { settings_.ima_list = (place_ / "list").string(); }

  // measure extends what a kernel does; show writes its list, which may have gone on.
  void measure(const ImaLog& log) {
    for (const Digest256& digest : log.extended) swtpm_.extend_pcr(evidence::kImaPcr, digest);
  }
  void show(const Bytes& list) const {
    std::ofstream{settings_.ima_list, std::ios::binary | std::ios::trunc} << as_text(list);
  }
  Result<std::vector<record::Blob>> quote() { return quote_ima(tpm_, settings_, binding_); }

  const Digest256 binding_ = crypto::sha256(as_bytes("this request"));
  test::TemporaryDirectory place_;
  test::TemporarySwtpm swtpm_;
  tpm::Tpm tpm_;
  Settings settings_;
};

TEST_F(ImaListOfAMachine, IsSentAsFarAsItWasQuoted) {
  ImaLog log = ImaLog::booted().file("/usr/bin/ssh", "ssh 9.2");
  measure(log);
  const Bytes quoted = log.bytes;
  show(log.file("/usr/bin/later", "started after the quote").bytes);
  const auto blobs = value_of(quote());
  ASSERT_EQ(blobs.size(), 2u);
  EXPECT_EQ(blobs[0].type, EvidenceType::kImaList);
  EXPECT_EQ(blobs[0].bytes, quoted);
  ASSERT_EQ(blobs[1].type, EvidenceType::kImaQuote);
  const auto evidence = value_of(record::parse_ima_quote_evidence(blobs[1].bytes));
  EXPECT_EQ(evidence.parts, std::vector{crypto::sha256(quoted)});
  const auto ak = value_of(evidence::parse_attestation_key(value_of(tpm_.attestation_key())));
  const Digest256 pcr10{evidence.pcr10};
  EXPECT_THAT(evidence::verify_quote({evidence.attest, evidence.signature}, ak, binding_,
                                     record::ima_selection(), {&pcr10, 1}),
              Succeeds());
}

TEST_F(ImaListOfAMachine, IsOfThisBootAndReadable) {
  const ImaLog log = ImaLog::booted().file("/usr/bin/ssh", "ssh 9.2");
  measure(log);
  const auto told = [&] {
    const auto refused = quote();
    EXPECT_THAT(refused, FailsWith(Reason::kImaMissing));
    return refused.has_value() ? std::string{} : refused.error().what;
  };
  EXPECT_THAT(told(), HasSubstr("cannot read " + settings_.ima_list));
  show({});
  EXPECT_THAT(told(), HasSubstr("is empty"));
  show(ImaLog::booted().bytes);  // an old copy, which ends too early
  EXPECT_THAT(quote(), FailsWith(Reason::kImaReplay));
  show(to_bytes(as_bytes("10 91f3 ima-ng sha256:0 boot_aggregate\n")));
  EXPECT_THAT(quote(), FailsWith(Reason::kImaForm));
  show(log.bytes);
  EXPECT_THAT(quote(), Succeeds());
  settings_.ima_list = "none";
  EXPECT_THAT(told(), HasSubstr("ima_list is none"));
  // A kernel that measures nothing has nothing to show.
  swtpm_.reboot();
  settings_.ima_list = (place_ / "list").string();
  EXPECT_THAT(quote(), FailsWith(Reason::kImaMissing));
}

}  // namespace
}  // namespace sallyport::client
