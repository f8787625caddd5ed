def keep(k): $context + {(k): .};
def workdays(n): {workdays: n};
def until(date; time; zone; days): {until: {date: date, time: time, zone: zone, days: days}};
def until(date; time; zone): until(date; time; zone; 0);
def table(name; key): name as $name | key as $key | $__tables | table_row($name; $key);
