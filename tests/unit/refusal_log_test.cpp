#include "broker/keyguard/refusal_log.h"

#include <gmock/gmock.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <sstream>

namespace sallyport::keyguard {
namespace {

TEST(RefusalLog, TellsAChangeAtOnceAndTheSameOnceAMinute) {
  std::ostringstream out;
  const auto before = spdlog::default_logger();
  auto logger =
      std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(out));
  logger->set_pattern("%v");
  spdlog::set_default_logger(logger);
  RefusalLog refusals;
  const UnixMillis start{1'790'000'000'000};
  for (std::uint64_t ms = 0; ms < 60'000; ms += 100)
    refusals.tell("no HSM", UnixMillis{start.get() + ms});  // told once, 599 times not
  refusals.tell("no HSM", UnixMillis{start.get() + 60'000});
  refusals.tell("no HSM", UnixMillis{start.get() + 60'100});
  refusals.tell("no PIN", UnixMillis{start.get() + 60'200});
  refusals.tell("no HSM", UnixMillis{start.get() + 60'300});
  refusals.tell("no HSM", UnixMillis{start.get() + 130'000});
  refusals.tell("no HSM", start);  // a clock that was set back hides nothing
  spdlog::set_default_logger(before);
  EXPECT_EQ(out.str(),
            "no HSM\n"
            "no HSM (600 times more)\n"
            "no HSM (1 times more)\n"
            "no PIN\n"
            "no HSM\n"
            "no HSM (1 times more)\n"
            "no HSM (1 times more)\n");
}

}  // namespace
}  // namespace sallyport::keyguard
