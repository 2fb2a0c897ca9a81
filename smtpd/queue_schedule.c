#include "smtpd/queue_schedule.h"

uint64_t
queue_pause_ms(uint64_t base_ms, uint32_t attempts, uint32_t random)
{
	uint64_t max = base_ms > QUEUE_PAUSE_MS_MAX ? base_ms : QUEUE_PAUSE_MS_MAX;
	uint64_t pause = base_ms;

	for (uint32_t i = 1; i < attempts && pause < max; i++)
		pause *= 2;
	if (pause > max)
		pause = max;
	/* 75 % ... 125 % */
	return pause - pause / 4 + (uint64_t)((double)(pause / 2) * ((double)random / UINT32_MAX));
}
