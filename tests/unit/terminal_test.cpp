#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/base/hex.h"
#include "attestation/crypto/random.h"
#include "client/terminal/cases.h"
#include "client/terminal/command.h"
#include "client/terminal/next_step.h"
#include "client/terminal/render.h"
#include "tests/support/matchers.h"
#include "tests/support/record_scenario.h"

namespace sallyport::client {
namespace {

using test::RecordScenario;
using test::value_of;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

namespace po = boost::program_options;

// ---- errors

constexpr Reason kReasons[] = {
#define SP_REASON_ITEM(enumerator, name, exit, sentence) Reason::enumerator,
    SP_REASONS(SP_REASON_ITEM)
#undef SP_REASON_ITEM
};

TEST(TerminalErrors, EveryReasonHasANextStep) {
  for (const Reason reason : kReasons) {
    EXPECT_FALSE(next_step(reason).empty()) << reason_name(reason);
    const std::string text = error_text(Error{Code::kUnavailable, reason, ""});
    EXPECT_THAT(text, HasSubstr(reason_sentence(reason)));
    EXPECT_THAT(text, EndsWith("  " + std::string{next_step(reason)} + "\n"));
  }
}

TEST(TerminalErrors, ADetailIsToldOnlyWhereItSaysMoreThanTheSentence) {
  const Error same{Code::kDenied, Reason::kDeviceExists, "the machine is enrolled already"};
  EXPECT_EQ(error_text(same),
            "sallyport: refused [device/exists] The machine, or its attestation key, is enrolled "
            "already.\n  " +
                std::string{next_step(Reason::kDeviceExists)} + "\n");
  for (const Reason reason : kReasons) {
    const std::string sentence{reason_sentence(reason)};
    const std::string text = error_text(Error{Code::kUnavailable, reason, sentence});
    EXPECT_EQ(text.find(sentence), text.rfind(sentence)) << sentence;
  }
  const std::string more = error_text(Error{Code::kDenied, Reason::kDeviceExists, "as laptop-erin"});
  EXPECT_THAT(more, HasSubstr("\n  as laptop-erin\n"));
}

TEST(TerminalErrors, ADetailThatNamesACommandIsTheNextStep) {
  const std::string text =
      error_text(Error{Code::kMalformed, Reason::kUsage, "sallyport review CASE [--open N]"});
  EXPECT_THAT(text, EndsWith("  sallyport review CASE [--open N]\n"));
}

TEST(TerminalErrors, TextOfOthersStaysText) {
  EXPECT_THAT(error_text(Error{Code::kDenied, Reason::kDenied, "\x1b[2Jall is well"}),
              HasSubstr("\\u{1b}[2Jall is well"));
}

// ---- the command line

Result<int> fail(const Arguments&) {
  return Error{Code::kDenied, Reason::kRegionDevice, "told"};
}
Result<int> throws(const Arguments&) {
  throw std::runtime_error{"thrown"};
}
Result<int> tell_pin(const Arguments& arguments) {
  std::cout << arguments.pin_for;
  return 0;
}
void number_flag(po::options_description& flags) {
  flags.add_options()("number", po::value<unsigned>(), "a number");
}

struct Said {
  int exit = 0;
  std::string out, err;
};
Said run(std::vector<std::string> words) {
  const std::vector<std::vector<Command>> rooms{
      {{"thing show", "thing show [--number N]", "shows a thing", "Help of it.\n", number_flag, {}, fail},
       {"thing drop", "thing drop", "drops a thing", "", nullptr, {}, throws, "to sign in and drop"}},
      {{"pin", "pin", "tells what the PIN is for", "", nullptr, {}, tell_pin},
       {"thing show all", "thing show all", "shows all", "", nullptr, {}, tell_pin, "to read all"},
       {"secret", "secret", "is for programs", "", nullptr, {}, tell_pin, "nothing", true}}};
  words.insert(words.begin(), "sallyport");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Said said;
  said.exit = run_command_line(static_cast<int>(words.size()), argv.data(), rooms);
  said.out = testing::internal::GetCapturedStdout();
  said.err = testing::internal::GetCapturedStderr();
  return said;
}

TEST(TerminalText, TakesAMomentAsItIsPrinted) {
  const UnixMillis time{1'790'000'000'000};
  EXPECT_EQ(value_of(parse_utc(utc(time))), time);
  EXPECT_EQ(value_of(parse_utc("1970-01-02")).get(), 86'400'000u);
  EXPECT_EQ(value_of(parse_utc("1970-01-01T00:01:05Z")).get(), 65'000u);
  EXPECT_TRUE(parse_utc("2028-02-29").has_value());
  for (const char* text : {"", "2026", "2026-11-21T09:14:02", "2026-11-21T09:14:02+01:00", "2026-13-01",
                           "2026-02-29", "2026-00-10", "1969-12-31", "2026-11-21T24:00:00Z",
                           "2026-11-21T09:60:00Z", "2026-11-2x", "2026/11/21", "2026-11-21-09:14:02Z"})
    EXPECT_THAT(parse_utc(text), test::FailsWith(Reason::kUsage)) << text;
}

TEST(TerminalCommands, EveryErrorIsJsonWhereJsonIsAskedFor) {
  struct Line {
    std::vector<std::string> words;
    int exit;
    const char* code;
  };
  for (const Line& line :
       {Line{{"frob", "-f", "json"}, 2, "usage"}, Line{{"thing", "-f", "json"}, 2, "usage"},
        Line{{"thing", "frob", "--format", "json"}, 2, "usage"},
        Line{{"thing", "show", "--frob", "-f", "json"}, 2, "usage"},
        Line{{"thing", "show", "--number", "x", "--format=json"}, 2, "usage"},
        Line{{"thing", "show", "--number", "-fjson"}, 2, "usage"},
        Line{{"thing", "show", "-f", "json"}, 6, "region/device"},
        Line{{"thing", "drop", "-f", "json"}, 1, "internal"}}) {
    const Said said = run(line.words);
    EXPECT_EQ(said.exit, line.exit) << said.out << said.err;
    EXPECT_THAT(said.out, StartsWith("{\"code\":\"" + std::string{line.code} + "\",\"detail\":\""))
        << line.words.back();
    EXPECT_THAT(said.out, EndsWith("}\n"));
    EXPECT_EQ(said.err, "");
  }
  // What comes after "--" is another program's; and without -f it is text, on stderr.
  for (const auto& words :
       std::vector<std::vector<std::string>>{{"thing", "show", "--", "-f", "json"}, {"frob"}}) {
    const Said said = run(words);
    EXPECT_EQ(said.out, "");
    EXPECT_THAT(said.err, StartsWith("sallyport: "));
  }
  EXPECT_THAT(run({"thing", "show", "-f", "xml"}).err, HasSubstr("-f takes text or json, not xml"));
}

TEST(TerminalCommands, TheBeginningOfNamesListsThem) {
  for (const auto& words :
       std::vector<std::vector<std::string>>{{"thing", "--help"}, {"thing", "-h"}, {"help", "thing"}}) {
    const Said said = run(words);
    EXPECT_EQ(said.exit, 0);
    EXPECT_THAT(said.out, HasSubstr("  thing show          shows a thing\n"));
    EXPECT_THAT(said.out, HasSubstr("  thing drop          drops a thing\n"));
    EXPECT_THAT(said.out, Not(HasSubstr("tells what")));
    EXPECT_EQ(said.err, "");
  }
  for (const auto& words :
       std::vector<std::vector<std::string>>{{"thing"}, {"thing", "frob"}, {"thing", "--number"}}) {
    const Said said = run(words);
    EXPECT_EQ(said.exit, 2);
    EXPECT_THAT(said.err, HasSubstr("  thing show          shows a thing\n"));
    EXPECT_THAT(said.err, HasSubstr("[usage]"));
    EXPECT_EQ(said.out, "");
  }
  EXPECT_THAT(run({"thing", "frob"}).err, HasSubstr("no such command: thing frob"));
  EXPECT_THAT(run({"frob", "--help"}).err, HasSubstr("no such command: frob"));
  EXPECT_THAT(run({"help", "thing", "show"}).out, StartsWith("usage: sallyport thing show [--number N]\n"));
}

TEST(TerminalCommands, TheOverviewTeachesSettingsAndLeavesOutWhatProgramsCall) {
  const Said said = run({"--help"});
  EXPECT_EQ(said.exit, 0);
  for (const char* name :
       {"SALLYPORT_CONFIG", "SALLYPORT_URL", "SALLYPORT_TCTI", "SALLYPORT_TOKEN", "SALLYPORT_PERSON"})
    EXPECT_THAT(said.out, HasSubstr(name));
  EXPECT_THAT(said.out, HasSubstr("thing show"));
  EXPECT_THAT(said.out, Not(HasSubstr("secret")));
  EXPECT_EQ(run({"secret"}).out, "nothing");  // but it is there
}

TEST(TerminalCommands, ThePromptForAPinSaysWhatItIsFor) {
  EXPECT_EQ(run({"pin"}).out, "to sign in");
  EXPECT_EQ(run({"thing", "show", "all"}).out, "to read all");  // the longest name wins
}

// ---- cases

TEST(TerminalCases, ADenialTellsWhoAndWhy) {
  RecordScenario world;
  const test::OpenCase open = world.request({});
  api::CaseView view;
  view.case_id = open.id;
  const auto fill = [&] {
    view.entries.clear();
    for (std::size_t i = 0; i < world.entries.size(); ++i)
      if (world.entries[i].leaf.case_id == open.id) view.entries.push_back({i, world.entries[i]});
  };
  const LeafAt leaf_at = [&](LeafIndex index) -> Result<ledger::Leaf> {
    return world.entries.at(index.get()).leaf;
  };
  fill();
  EXPECT_FALSE(find_denial(leaf_at, view).has_value());
  value_of(world.deny(open.id, "bob"));
  fill();
  const auto denied = find_denial(leaf_at, view);
  ASSERT_TRUE(denied.has_value());
  EXPECT_EQ(denied->person, "bob@corp.example");
  EXPECT_THAT(denied->reason, testing::Not(testing::IsEmpty()));

  // What the broker shows and our own log does not hold is no denial: another leaf there, or another body.
  const LeafAt older = [&](LeafIndex) -> Result<ledger::Leaf> { return world.entries.at(0).leaf; };
  EXPECT_FALSE(find_denial(older, view).has_value());
  view.entries.back().entry.body.back() ^= 1;
  EXPECT_FALSE(find_denial(leaf_at, view).has_value());
  EXPECT_THAT(denial_text({"bob\n", "\x1b[1mno", UnixMillis{1'000}}, UnixMillis{41'000}),
              testing::Eq("bob\\u{a} 40 s ago: \"\\u{1b}[1mno\""));
}

}  // namespace
}  // namespace sallyport::client
