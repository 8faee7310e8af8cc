-- of the log
CREATE SCHEMA IF NOT EXISTS `project`.`replica` OPTIONS (location = 'EU')
