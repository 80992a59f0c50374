/* Start of a Cortex-M with semihosting (newlib's rdimon), for emulated boards. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern uint32_t stack_top, data_from[], data_start[], data_end[], bss_start[], bss_end[];
extern void initialise_monitor_handles(void);
int main(void);
void start(void);
uint32_t ticks_left(void);
void _init(void);
void _fini(void);

/* What newlib calls around main. */
void _init(void)
{
}

void _fini(void)
{
}

#define SYSTICK ((volatile uint32_t *)0xE000E010)

/* SysTick counts processor clocks (25 MHz on this board) downwards from 2^24. */
uint32_t ticks_left(void)
{
    return SYSTICK[2];
}

void start(void)
{
    memcpy(data_start, data_from, (size_t)((char *)data_end - (char *)data_start));
    memset(bss_start, 0, (size_t)((char *)bss_end - (char *)bss_start));
    SYSTICK[1] = 0xFFFFFF;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5;
    initialise_monitor_handles();
    exit(main());
}

static void fault(void)
{
    exit(99);
}

__attribute__((section(".vectors"), used)) static const uintptr_t vectors[] = {
    (uintptr_t)&stack_top, (uintptr_t)start, (uintptr_t)fault, (uintptr_t)fault, (uintptr_t)fault, (uintptr_t)fault, (uintptr_t)fault,
};
