/* The judgement as a table: what a foreign code means, and what becomes of the work that met it. */
#include "torture.h"

#include "weir/io/http_client.h"
#include "weir/io/pg.h"
#include "weir/pipeline/verdict.h"

static const struct {
	const char *sqlstate, *constraint;
	enum err err;
	enum verdict verdict;
} sqlstates[] = {
    /* the content */
    {"22000", "", ERR_DATA, VERDICT_DATA},
    {"22001", "", ERR_DATA, VERDICT_DATA},
    {"22021", "", ERR_DATA, VERDICT_DATA},
    {"22P02", "", ERR_DATA, VERDICT_DATA},
    {"22P05", "", ERR_DATA, VERDICT_DATA},
    {"23502", "", ERR_DATA, VERDICT_DATA},
    {"23503", "a_fkey", ERR_DATA, VERDICT_DATA},
    {"23505", "a_key", ERR_DATA, VERDICT_DATA},
    {"23514", "a_check", ERR_DATA, VERDICT_DATA},
    {"54000", "", ERR_DATA, VERDICT_DATA},
    {"54001", "", ERR_DATA, VERDICT_DATA},
    /* no partition takes the row */
    {"23514", "", ERR_NOTABLE, VERDICT_HEAL},
    {"23514", NULL, ERR_NOTABLE, VERDICT_HEAL},
    {"42P01", "", ERR_NOTABLE, VERDICT_HEAL},
    {"3F000", "", ERR_NOTABLE, VERDICT_HEAL},
    /* the weather */
    {"08000", "", ERR_UNAVAILABLE, VERDICT_SUSPECT},
    {"08006", "", ERR_UNAVAILABLE, VERDICT_SUSPECT},
    {"25006", "", ERR_AGAIN, VERDICT_SUSPECT},
    {"40001", "", ERR_AGAIN, VERDICT_SUSPECT},
    {"40P01", "", ERR_AGAIN, VERDICT_SUSPECT},
    {"53100", "", ERR_FULL, VERDICT_SUSPECT},
    {"53200", "", ERR_UNAVAILABLE, VERDICT_SUSPECT},
    {"53300", "", ERR_FULL, VERDICT_SUSPECT},
    {"55P03", "", ERR_AGAIN, VERDICT_SUSPECT},
    {"57014", "", ERR_TIMEOUT, VERDICT_SUSPECT},
    {"57P01", "", ERR_UNAVAILABLE, VERDICT_SUSPECT},
    {"57P03", "", ERR_UNAVAILABLE, VERDICT_SUSPECT},
    {"58030", "", ERR_UNAVAILABLE, VERDICT_SUSPECT},
    {"XX000", "", ERR_UNAVAILABLE, VERDICT_SUSPECT},
    {"0A000", "", ERR_UNAVAILABLE, VERDICT_SUSPECT},
    {"ZZZZZ", "", ERR_UNAVAILABLE, VERDICT_SUSPECT},
    {"", "", ERR_UNAVAILABLE, VERDICT_SUSPECT},
    /* the set-up */
    {"28000", "", ERR_DENIED, VERDICT_CONFIG},
    {"28P01", "", ERR_DENIED, VERDICT_CONFIG},
    {"42501", "", ERR_DENIED, VERDICT_CONFIG},
    {"42703", "", ERR_BUG, VERDICT_CONFIG},
    {"42883", "", ERR_BUG, VERDICT_CONFIG},
};

static void test_sqlstates(void **state)
{
	(void)state;
	for (size_t i = 0; i < TORTURE_LEN(sqlstates); i++) {
		enum err e = pg_err_of_sqlstate(sqlstates[i].sqlstate, sqlstates[i].constraint);

		if (e != sqlstates[i].err || verdict_of(e) != sqlstates[i].verdict)
			fail_msg("%s: %s, verdict %d", sqlstates[i].sqlstate, err_name(e),
			         (int)verdict_of(e));
	}
}

static const struct {
	int status;
	enum fate fate;
} statuses[] = {
    {200, FATE_DONE},  {204, FATE_DONE},  {301, FATE_RETRY}, {400, FATE_DEAD},  {401, FATE_STOP},
    {403, FATE_STOP},  {404, FATE_DROP},  {408, FATE_RETRY}, {409, FATE_DROP},  {410, FATE_DROP},
    {413, FATE_DEAD},  {422, FATE_DEAD},  {425, FATE_RETRY}, {429, FATE_RETRY}, {500, FATE_RETRY},
    {502, FATE_RETRY}, {503, FATE_RETRY}, {504, FATE_RETRY}, {507, FATE_RETRY}, {0, FATE_RETRY},
};

static void test_http_statuses(void **state)
{
	(void)state;
	for (size_t i = 0; i < TORTURE_LEN(statuses); i++) {
		enum err e = err_of_http_status(statuses[i].status);

		if (err_fate(e) != statuses[i].fate)
			fail_msg("%d: %s", statuses[i].status, err_name(e));
	}
}

/* The pipeline's verdicts refine what base/err.h says of each error, and never contradict it. */
static void test_verdicts_refine_fates(void **state)
{
	(void)state;
	for (int i = 0; i < ERR_COUNT; i++) {
		enum err e = (enum err)i;
		enum verdict v = verdict_of(e);

		switch (err_fate(e)) {
		case FATE_RETRY:
			assert_true(v == VERDICT_RETRY || v == VERDICT_SUSPECT ||
			            v == VERDICT_HEAL);
			break;
		case FATE_DEAD:
			assert_int_equal(v, VERDICT_DATA);
			break;
		case FATE_STOP:
			assert_int_equal(v, VERDICT_CONFIG);
			break;
		case FATE_DROP:
			assert_int_equal(v, e == ERR_CANCELLED ? VERDICT_RETURN : VERDICT_SUSPECT);
			break;
		case FATE_DONE:
			break;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sqlstates),
	    cmocka_unit_test(test_http_statuses),
	    cmocka_unit_test(test_verdicts_refine_fates),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
