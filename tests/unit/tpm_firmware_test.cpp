#include "attestation/evidence/tpm_firmware.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/support/matchers.h"

namespace sallyport::evidence {
namespace {

using crypto::KeyAlgorithm;
using test::FailsWith;
using test::Succeeds;

constexpr std::string_view kSt = "id:53544D20", kIntel = "id:494E5443", kInfineon = "id:49465800";

const UnixMillis kEver{std::numeric_limits<std::uint64_t>::max()};  // whatever day a row holds from

std::uint64_t firmware(std::uint64_t major, std::uint64_t minor, std::uint64_t rest = 0) {
  return major << 48 | minor << 32 | rest;
}

struct Edge {
  const char* what;
  std::string_view manufacturer;
  std::uint64_t bad, good;  // the last that is affected, and the next that is not
};

TEST(TpmFirmware, WithTpmFailIsRefusedForEcdsaKeysOnly) {
  for (const Edge& edge :
       {Edge{"ST 71", kSt, firmware(71, 12, 0xFFFF'FFFF), firmware(71, 16)},
        Edge{"ST 73", kSt, firmware(73, 8), firmware(73, 20)},
        Edge{"ST 73, I2C", kSt, firmware(73, 9), firmware(73, 65)},
        Edge{"ST 74", kSt, firmware(74, 16), firmware(74, 20)},
        Edge{"Intel 11.8", kIntel, firmware(11, 8, 65 << 16 | 0xFFFF), firmware(11, 8, 70 << 16)},
        Edge{"Intel 11.8, as seen", kIntel, 0x000B0008'00320D62, firmware(11, 9)},
        Edge{"Intel 11.11", kIntel, firmware(11, 10), firmware(11, 11, 70 << 16)},
        Edge{"Intel 11.22", kIntel, firmware(11, 22, 65 << 16), firmware(11, 22, 70 << 16)},
        Edge{"Intel 12.0", kIntel, firmware(12, 0, 35 << 16), firmware(12, 0, 45 << 16)}}) {
    const auto refused = check_tpm_firmware(edge.manufacturer, edge.bad, KeyAlgorithm::kP256, kEver);
    EXPECT_THAT(refused, FailsWith(Reason::kTpmFirmware)) << edge.what;
    EXPECT_THAT(refused.error().what, testing::HasSubstr("TPM-FAIL")) << edge.what;
    EXPECT_THAT(refused.error().what, testing::HasSubstr("--ak rsa")) << edge.what;
    EXPECT_THAT(check_tpm_firmware(edge.manufacturer, edge.bad, KeyAlgorithm::kRsa2048, kEver), Succeeds())
        << edge.what;
    EXPECT_THAT(check_tpm_firmware(edge.manufacturer, edge.good, KeyAlgorithm::kP256, kEver), Succeeds())
        << edge.what;
    EXPECT_THAT(check_tpm_firmware("id:4E544300", edge.bad, KeyAlgorithm::kP256, kEver), Succeeds())
        << edge.what;
  }
}

TEST(TpmFirmware, WithRocaIsRefusedWhateverTheKey) {
  for (const KeyAlgorithm ak : {KeyAlgorithm::kP256, KeyAlgorithm::kRsa2048}) {
    // 0x00050028 is a real SLB 9665's 5.40.
    for (const std::uint64_t bad : std::initializer_list<std::uint64_t>{firmware(5, 0), 0x00050028'0007B302,
                                                                        firmware(5, 61, 0xFFFF'FFFF),
                                                                        firmware(7, 0), firmware(7, 61, 1)}) {
      const auto refused = check_tpm_firmware(kInfineon, bad, ak, kEver);
      EXPECT_THAT(refused, FailsWith(Reason::kTpmFirmware));
      EXPECT_THAT(refused.error().what, testing::HasSubstr("CVE-2017-15361"));
    }
    EXPECT_THAT(check_tpm_firmware(kInfineon, firmware(5, 62), ak, kEver), Succeeds());
    EXPECT_THAT(check_tpm_firmware(kInfineon, firmware(7, 62), ak, kEver), Succeeds());
    EXPECT_THAT(check_tpm_firmware(kInfineon, firmware(7, 85, 4555), ak, kEver), Succeeds());
    EXPECT_THAT(check_tpm_firmware(kInfineon, firmware(15, 23), ak, kEver), Succeeds());
  }
}

TEST(TpmFirmware, IsOfTheManufacturerHoweverItsIdIsWritten) {
  EXPECT_THAT(check_tpm_firmware("id:53544d20", firmware(73, 4), KeyAlgorithm::kP256, kEver),
              FailsWith(Reason::kTpmFirmware));
  EXPECT_THAT(check_tpm_firmware("id:53544D", firmware(73, 4), KeyAlgorithm::kP256, kEver), Succeeds());
  EXPECT_THAT(check_tpm_firmware("", firmware(73, 4), KeyAlgorithm::kP256, kEver), Succeeds());
}

TEST(TpmFirmware, IsToldByItsVersion) {
  const auto refused = check_tpm_firmware(kInfineon, 0x00050028'0007B302, KeyAlgorithm::kP256, kEver);
  EXPECT_THAT(refused.error().what, testing::HasSubstr("firmware 5.40.7.45826 has"));
  EXPECT_THAT(refused.error().what, testing::HasSubstr("5.62"));
}

// What a release adds changes no judgement of before.
TEST(TpmFirmware, OfARowIsRefusedFromItsDayOn) {
  constexpr std::uint64_t kDay = 1'800'000'000'000;
  const FirmwareWeakness row{"NTC", firmware(7, 2), firmware(7, 2, 9), false, "CVE-0000-0000", "7.3", kDay};
  const auto check = [&](std::uint64_t at) {
    return check_tpm_firmware("id:4E544300", firmware(7, 2, 1), KeyAlgorithm::kP256, UnixMillis{at},
                              {&row, 1});
  };
  EXPECT_THAT(check(0), Succeeds());
  EXPECT_THAT(check(kDay - 1), Succeeds());
  EXPECT_THAT(check(kDay), FailsWith(Reason::kTpmFirmware));
  EXPECT_THAT(check(kDay + 1), FailsWith(Reason::kTpmFirmware));
  // Those that the table began with were never not there.
  for (const FirmwareWeakness& known : known_weaknesses())
    EXPECT_THAT(check_tpm_firmware(known.manufacturer, known.first, KeyAlgorithm::kP256,
                                   UnixMillis{known.holds_from}),
                FailsWith(Reason::kTpmFirmware));
  EXPECT_THAT(check_tpm_firmware(kSt, firmware(73, 4), KeyAlgorithm::kP256, UnixMillis{0}),
              FailsWith(Reason::kTpmFirmware));
}

// libtpms tells 0x20191023'00163636 with its known weaknesses as without them, so no version of it is
// refused.
TEST(TpmFirmware, OfTheEmulatedTpmCannotBeJudged) {
  EXPECT_THAT(check_tpm_firmware("id:00001014", 0x20191023'00163636, KeyAlgorithm::kP256, kEver), Succeeds());
}

}  // namespace
}  // namespace sallyport::evidence
