DELETE FROM `project`.`replica`.`by_hour`
WHERE COALESCE(`_strait_position`, '') < '1767322000000000' AND (`at` IS NULL OR `at` IS NOT NULL) AND TRUE
