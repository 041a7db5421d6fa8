#include <gmock/gmock.h>

#include <fstream>

#include "attestation/crypto/digest.h"
#include "attestation/evidence/event_log.h"
#include "attestation/record/canonical_json.h"
#include "attestation/record/entry.h"
#include "client/evidence/commands.h"
#include "tests/support/files.h"
#include "tests/support/ima_log.h"
#include "tests/support/matchers.h"
#include "tests/support/run_tool.h"
#include "tests/support/soft_tpm.h"

namespace sallyport::client::evidence_tools {
namespace {

using test::Ran;
using test::read_file;
using test::SoftTpm;
using test::Succeeds;
using test::value_of;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

Ran run(std::vector<std::string> words) {
  words.insert(words.begin(), "evidence");
  return test::run_tool(std::move(words), {commands()});
}

std::string log_path(const std::string& name) {
  return "tests/vectors/event_logs/" + name;
}

class EvidenceTools : public testing::Test {
 protected:
  std::string file(ByteView bytes) {
    const std::filesystem::path path = directory_ / std::to_string(files_++);
    std::ofstream{path, std::ios::binary} << as_text(bytes);
    return path.string();
  }
  SoftTpm tpm_;

 private:
  test::TemporaryDirectory directory_;
  int files_ = 0;
};

record::json::Value json(const Ran& ran) {
  EXPECT_EQ(ran.exit, 0) << ran.out << ran.err;
  return value_of(record::json::parse_canonical(as_bytes(ran.out.substr(0, ran.out.size() - 1)), 1 << 20));
}

TEST_F(EvidenceTools, ReplayTellsThePcrsOfEachBank) {
  const Ran ran = run({"replay", log_path("p511.log")});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("crypto-agile · 59 events · 62 KiB"));
  EXPECT_THAT(ran.out, HasSubstr("not replayed: event 43 (EV_COMPACT_HASH, PCR 11) has no sha1 digest"));
  EXPECT_THAT(ran.out, HasSubstr("   7  48d7c7f9d3ee6d1a8a0fb7995162aaecd00ebb9d05be790701d4eeec8df8519e\n"));
  EXPECT_THAT(ran.out, HasSubstr("no event extends PCR 8–10, 15–23"));
  EXPECT_THAT(run({"replay", log_path("dell1.log")}).out,
              HasSubstr("starts at 3, the locality that the log states"));
  Bytes padded = read_file(log_path("dell1.log"));
  padded.insert(padded.end(), 100, 0xFF);
  EXPECT_THAT(run({"replay", file(padded)}).out, HasSubstr("of which 100 B are padding"));
}

TEST_F(EvidenceTools, ReplayTakesOneBank) {
  const Ran ran = run({"replay", log_path("dell1.log"), "--bank", "sha256"});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("\nsha256\n"), Not(HasSubstr("\nsha1\n"))));
  const Ran uncovered = run({"replay", log_path("dell1.log"), "--bank", "sha1"});
  EXPECT_EQ(uncovered.exit, 5);
  EXPECT_THAT(uncovered.err, HasSubstr("[event-log/bank]"));
  EXPECT_EQ(run({"replay", log_path("dell1.log"), "--bank", "md5"}).exit, 2);
}

TEST_F(EvidenceTools, ReplayRefusesWhatIsNoLog) {
  const Ran ran = run({"replay", log_path("specid-vendordata.bin")});
  EXPECT_EQ(ran.exit, 5);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("[event-log/form]"), HasSubstr("event 0")));
  EXPECT_EQ(run({"replay", file({})}).exit, 5);
  EXPECT_EQ(run({"replay", file(Bytes(evidence::kMaxEventLogBytes + 1, 0))}).exit, 2);
  EXPECT_EQ(run({"replay"}).exit, 2);
  EXPECT_EQ(run({"replay", "/nowhere"}).exit, 2);
}

TEST_F(EvidenceTools, ReplaySpeaksJson) {
  const auto value = json(run({"replay", log_path("dell1.log"), "-f", "json"}));
  const auto& members = *value.as_object();
  ASSERT_EQ(members[0].name, "banks");
  const auto& banks = *members[0].value.as_array();
  ASSERT_EQ(banks.size(), 2u);
  EXPECT_EQ((*banks[0].as_object())[1].name, "not_replayed");
  EXPECT_EQ((*banks[1].as_object())[1].value.as_array()->size(), 12u);
  EXPECT_EQ(members.back().name, "startup_locality");
  EXPECT_EQ(*members.back().value.as_integer(), 3u);
}

TEST_F(EvidenceTools, ShowTellsALogEventByEvent) {
  const Ran ran = run({"show", log_path("event-sd-boot-fedora37.bin")});
  EXPECT_EQ(ran.exit, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("event log, crypto-agile, 28 events"));
  EXPECT_THAT(ran.out, HasSubstr("   12  EV_IPL                            = \" console=ttyS0"));
  EXPECT_THAT(ran.out,
              HasSubstr("    9  EV_EVENT_TAG                        tag 0x8f3b22ec: \"Linux initrd\""));
  EXPECT_THAT(
      ran.out,
      HasSubstr("    1  EV_EFI_VARIABLE_BOOT              ~ variable BootOrder: 0001 0002 0000 0003"));
  // Of an event with PCR 0xFFFFFFFF nothing is told as its PCR.
  EXPECT_THAT(run({"show", log_path("p511.log")}).out, HasSubstr("   58    -  EV_NO_ACTION"));
  const auto value = json(run({"show", log_path("event-sd-boot-fedora37.bin"), "-f", "json"}));
  EXPECT_EQ((*value.as_object())[0].value.as_array()->size(), 28u);
}

TEST_F(EvidenceTools, ShowTellsAQuoteAndACertification) {
  const auto selection = evidence::PcrSelection::standard();
  const Digest256 binding = crypto::sha256(as_bytes("binding"));
  const evidence::SignedAttest quote = tpm_.quote(binding);
  const Ran raw = run({"show", file(quote.attest)});
  EXPECT_EQ(raw.exit, 0) << raw.err;
  EXPECT_THAT(raw.out, HasSubstr("quote of a TPM (TPMS_ATTEST); its signature is not judged here"));
  EXPECT_THAT(raw.out, HasSubstr("answers    " + to_hex(binding)));
  EXPECT_THAT(raw.out, HasSubstr("reset 7, restart 1, safe"));
  EXPECT_THAT(raw.out, HasSubstr("sha256: 0 1 2 3 4 5 6 7 14"));

  record::QuoteEvidence item{quote.attest, quote.signature, {}};
  for (const Digest256& value : tpm_.pcr_values(selection)) item.pcrs.push_back(value.get());
  EXPECT_THAT(run({"show", file(encode(item))}).out, HasSubstr("values     come to the digest"));
  item.pcrs[3][0] ^= 1;
  EXPECT_THAT(run({"show", file(encode(item))}).out, HasSubstr("do NOT come to the digest"));
  EXPECT_THAT(run({"show", file(encode(item)), "-f", "json"}).out, HasSubstr("\"values_agree\":false"));

  const auto key = crypto::PrivateKey::generate(crypto::KeyAlgorithm::kP256);
  const auto session = tpm_.create_session_key(
      evidence::SessionKeyUse::kSign,
      tpm_.session_policy(key.public_key(), Origin{"us.sallyport.example/log/1"}, CaseId{ByteArray<16>{1}}));
  const Ran certify = run({"show", file(tpm_.certify(session, binding).attest)});
  EXPECT_THAT(certify.out, AllOf(HasSubstr("certification of a TPM"), HasSubstr(to_hex(view(session.name)))));
}

TEST_F(EvidenceTools, ShowSaysWhatAnotherFileCouldBe) {
  const auto said = [&](ByteView bytes) {
    const Ran ran = run({"show", file(bytes)});
    EXPECT_EQ(ran.exit, 2);
    return ran.err;
  };
  EXPECT_THAT(said({}), HasSubstr("an empty file"));
  EXPECT_THAT(said(as_bytes("-----BEGIN CERTIFICATE-----\n")), HasSubstr("a PEM file"));
  EXPECT_THAT(said(read_file("tests/vectors/ek_certificates/hirs-st33zp24.der")), HasSubstr("DER"));
  EXPECT_THAT(said(as_bytes("{\"a\":1}")), HasSubstr("JSON"));
  EXPECT_THAT(said(as_bytes("10 91f3 ima-ng sha1:0 boot_aggregate\n")), HasSubstr("IMA"));
  Bytes sized = tpm_.quote(crypto::sha256(as_bytes("binding"))).attest;
  sized.insert(sized.begin(), {0, static_cast<std::uint8_t>(sized.size())});
  EXPECT_THAT(said(sized), HasSubstr("cut its first two bytes off"));
}

TEST_F(EvidenceTools, ImaReplaysAListToAQuotedValueAndSaysWhichFileIsNotExpected) {
  const std::string list = "tests/vectors/ima/ima-sha1.log";
  const std::string quoted = "7fac48c81837d6d29046008aef0cdad8c2745cc98c3340cbba9bfdf39b4124b8";
  const Ran whole = run({"ima", list});
  EXPECT_EQ(whole.exit, 0) << whole.err;
  EXPECT_THAT(whole.out, AllOf(HasSubstr("362 entries"), HasSubstr(quoted + "  (own hash)"),
                               HasSubstr("  (padded SHA-1)"), HasSubstr("a claim")));
  EXPECT_THAT(run({"ima", list, "--pcr10", quoted}).out, HasSubstr("after 362 entries; 0 came later"));
  const Ran told = run({"ima", "tests/vectors/ima/ima-sha256.log", "--template-hash", "sha256", "--pcr10",
                        quoted, "-f", "json"});
  EXPECT_THAT(told.out, AllOf(HasSubstr("\"files\":\"not appraised\""), HasSubstr("\"violations\":0"),
                              HasSubstr("\"extension\":\"own hash\"")));
  json(told);  // it is canonical
  const Ran other = run({"ima", list, "--pcr10", std::string(64, '0').replace(0, 1, "1")});
  EXPECT_EQ(other.exit, 5);
  EXPECT_THAT(other.err, HasSubstr("none of 362 entries"));
  EXPECT_EQ(run({"ima", list, "--allow", file(as_bytes("sha256:00 /usr/bin/kmod\n"))}).exit, 5);
  const std::string kmod = file(
      as_bytes("sha256:5ad811f923e951403fb1252c25059628bab7c9b00925df7da01c2b5ba0b62d79 /usr/bin/kmod\n"));
  EXPECT_THAT(run({"ima", list, "--allow", kmod}).err, HasSubstr("entry 2, /usr/lib64/ld-linux-x86-64.so.2"));
  const Ran unexpected = run({"ima", list, "--allow", file({})});
  EXPECT_EQ(unexpected.exit, 5);
  EXPECT_THAT(unexpected.err, HasSubstr("entry 1, /usr/bin/kmod"));
  EXPECT_EQ(run({"ima", list, "--pcr10", "00"}).exit, 2);
  // By what a policy says.
  const std::string good =
      "version = 1\n[[reference]]\nid = \"enrolled\"\nas_enrolled = true\n[ima]\nviolations = true\n"
      "files = \"\"\"\n";
  const test::ImaLog log = test::ImaLog::booted().file("/usr/bin/ssh", "ssh 9.2").violation("/var/log/a");
  const std::string own = file(log.bytes);
  const std::string references = file(as_bytes(good + log.allow_list() + "\"\"\"\n"));
  const Ran expected = run({"ima", own, "--references", references});
  EXPECT_EQ(expected.exit, 0) << expected.err;
  EXPECT_THAT(expected.out, HasSubstr("each is expected: 1 listed, 0 signed, 1 violations"));
  EXPECT_THAT(run({"ima", list, "--references", references}).err, HasSubstr("[ima/unexpected]"));
  EXPECT_EQ(run({"ima", own, "--references", references, "--allow", kmod}).exit, 2);
  const Ran no_table = run({"ima", own, "--references", file(as_bytes(good.substr(0, good.find("[ima]"))))});
  EXPECT_EQ(no_table.exit, 2);
  EXPECT_THAT(no_table.err, HasSubstr("has no [ima]"));
  EXPECT_EQ(run({"ima", list, "--template-hash", "md5"}).exit, 2);
  EXPECT_EQ(run({"ima"}).exit, 2);
}

}  // namespace
}  // namespace sallyport::client::evidence_tools
